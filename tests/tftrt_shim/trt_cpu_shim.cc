// CPU kernels for TF-TRT's ops, for tests: with them a machine without GPU loads, runs, builds and serializes
// the SavedModels that the backend `tf-trt` writes.
//
// An engine is simulated: it is the profiles (ranges of input shapes) that it was built for, and running it runs
// the native segment. When an engine is built, found, saved or passed over follows TF 2.14-2.17
// (tensorflow/compiler/tf2tensorrt: kernels/*, utils/trt_lru_cache.*, utils/trt_shape_optimization_profiles.*),
// surprises included: those are what a test wants to see. Left out is what only TensorRT knows: whether it takes
// a segment, which inputs are shape tensors, and all arithmetic.
//
// With TRT_SHIM_LOG=<file>, each event is appended to that file as a line "<event> <engine's name>":
//   profile, calibrate, engine, native  a request: its shapes collected, its data calibrated with, run as an
//                                       engine, run natively for want of one
//   build, load, save                   an engine was built; a file of engines was read; one was written
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "engine_cache.h"
#include "tensorflow/compiler/tf2tensorrt/utils/trt_engine_instance.pb.h"
#include "tensorflow/core/framework/function.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/lib/io/record_writer.h"

// As in the real ops, each place warns five times and is silent then.
#define TRT_WARNING LOG_FIRST_N(WARNING, 5) << "TF-TRT Warning: "

namespace tensorflow {
namespace trt_cpu_shim {
namespace {

class EngineOp : public AsyncOpKernel {
 public:
  explicit EngineOp(OpKernelConstruction* ctx) : AsyncOpKernel(ctx) {
    // Inlining puts scopes before the name; the cache goes by what is behind them.
    engine_name_ = std::string(name()).substr(std::string(name()).rfind('/') + 1);
    std::string precision, calibration_data;
    bool use_calibration;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("segment_func", &segment_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("serialized_segment", &serialized_engine_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("static_engine", &static_engine_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("precision_mode", &precision));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("calibration_data", &calibration_data));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("use_calibration", &use_calibration));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("input_shapes", &input_shapes_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("max_cached_engines_count", &capacity_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("profile_strategy", &strategy_));
    absl::AsciiStrToLower(&strategy_);
    const auto flag = [ctx](const char* attribute, bool otherwise) {
      bool value;
      return ctx->GetAttr(attribute, &value).ok() ? value : otherwise;
    };
    allow_build_ = flag("_allow_build_at_runtime", true);
    implicit_batch_ = flag("_use_implicit_batch", true);
    collecting_ = flag("_profile_generation_mode", false) && !static_engine_;
    calibrating_ = use_calibration && precision == "INT8" && calibration_data.empty();
    OP_REQUIRES(ctx, !implicit_batch_ || !collecting_, errors::InvalidArgument(
        "profile_generation_mode_=true is only supported if use_implicit_batch=false"));
    OP_REQUIRES(ctx, implicit_batch_ || !input_shapes_.empty(), errors::InvalidArgument(
        "Explicit batch mode requires attribute input_shapes to be set."));
    OP_REQUIRES(ctx, implicit_batch_ || strategy_ == "range" || strategy_ == "optimal" ||
                     strategy_ == "range+optimal" || strategy_ == "implicitbatchmodecompatible",
                errors::InvalidArgument("Invalid profile strategy: ", strategy_));
    OP_REQUIRES(ctx, !segment_.name().empty(), errors::InvalidArgument(
        engine_name_, " has no native segment: nothing that a CPU could run"));
    // Grappler would fold an op of constant inputs into a constant, now that there is a CPU kernel to do it with.
    OP_REQUIRES(ctx, ctx->function_library() != nullptr, errors::Unimplemented("an engine is not to be folded"));
    // As the real op does it: a multi-device function, so that soft placement is possible.
    FunctionLibraryRuntime::InstantiateOptions options;
    options.target = ctx->device()->name();
    options.is_multi_device_function = true;
    options.input_devices.resize(ctx->num_inputs(), options.target);
    options.output_devices.resize(ctx->num_outputs(), options.target);
    options.config_proto.set_allow_soft_placement(true);
    OP_REQUIRES_OK(ctx, ctx->function_library()->Instantiate(segment_.name(), AttrSlice(&segment_.attr()),
                                                             options, &segment_handle_));
  }

  void ComputeAsync(OpKernelContext* ctx, DoneCallback done) override {
    EngineCache* cache = nullptr;
    OP_REQUIRES_OK_ASYNC(ctx, ctx->resource_manager()->LookupOrCreate<EngineCache>(
        kContainer, engine_name_, &cache, EngineCache::Maker(capacity_)), done);
    core::ScopedUnref unref(cache);
    const absl::StatusOr<const char*> event = Decide(ctx, cache);
    OP_REQUIRES_OK_ASYNC(ctx, event.status(), done);
    LogEvent(*event, engine_name_);
    FunctionLibraryRuntime::Options options;
    options.rendezvous = ctx->rendezvous();
    options.cancellation_manager = ctx->cancellation_manager();
    options.step_container = ctx->step_container();
    options.runner = ctx->runner();
    std::vector<Tensor> inputs;
    for (int i = 0; i < ctx->num_inputs(); ++i) inputs.push_back(ctx->input(i));
    auto outputs = std::make_shared<std::vector<Tensor>>();
    ctx->function_library()->Run(options, segment_handle_, inputs, outputs.get(),
                                 [ctx, outputs, done](const absl::Status& status) {
      OP_REQUIRES_OK_ASYNC(ctx, status, done);
      for (size_t i = 0; i < outputs->size(); ++i) ctx->set_output(i, (*outputs)[i]);
      done();
    });
  }

 private:
  // How this request is answered: the event that it is.
  absl::StatusOr<const char*> Decide(OpKernelContext* ctx, EngineCache* cache) const {
    Shapes shapes;
    for (int i = 0; i < ctx->num_inputs(); ++i) shapes.push_back(ctx->input(i).shape());
    const absl::Status verified = VerifyInputShapes(ctx);
    if (!verified.ok()) {  // Natively, even where that is forbidden.
      TRT_WARNING << "Running native segment for " << name() << " due to failure in verifying input shapes: "
                  << verified.message();
      return "native";
    }
    mutex_lock lock(cache->mu);
    if (collecting_) {
      if (!cache->profiles.empty()) {
        return errors::Unimplemented("Cannot collect new shapes when profiles are already created.");
      }
      cache->collected.push_back(shapes);
      return "profile";
    }
    // The first request after collection fixes the profiles; where nothing was collected, to its own shapes.
    if (!implicit_batch_ && !static_engine_ && cache->profiles.empty()) {
      if (cache->collected.empty()) cache->collected.push_back(shapes);
      cache->profiles = MakeProfiles(strategy_, cache->collected);
    }
    if (calibrating_ && cache->engines.empty()) return Calibrate(ctx, shapes, cache);
    const Engine* engine = Find(shapes, *cache);
    if (engine == nullptr) engine = Build(shapes, cache);
    for (const Profile& profile : engine->profiles) {
      if (profile.Includes(shapes)) return "engine";
    }
    TRT_WARNING << "Engine retrieval for input shapes: " << TensorShapeUtils::ShapeListString(shapes)
                << " failed. Running native segment for " << name();
    if (EnvFlag("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", true)) return "native";
    return errors::Aborted("User disallowed engine native segment execution");
  }

  absl::Status VerifyInputShapes(OpKernelContext* ctx) const {
    const TensorShape* first = nullptr;
    for (size_t i = 0; i < static_cast<size_t>(ctx->num_inputs()); ++i) {
      if (ctx->input_dtype(i) == DT_RESOURCE) continue;  // A variable: to TensorRT weights, not an input.
      const TensorShape& shape = ctx->input(i).shape();
      if (first == nullptr) first = &shape;
      // Expecting an unknown rank fits nothing: such an op never uses an engine.
      if (!input_shapes_.empty() && (i >= input_shapes_.size() || input_shapes_[i].dims() != shape.dims() ||
                                     !input_shapes_[i].IsCompatibleWith(shape))) {
        return errors::InvalidArgument(
            "Input shapes do not match input partial shapes stored in graph, for ", name(), ": ", shape.DebugString(),
            " != ", PartialTensorShapeUtils::PartialShapeListString(input_shapes_));
      }
      if (implicit_batch_ && (shape.dims() < 1 || shape.dim_size(0) < 1 || shape.dim_size(0) != first->dim_size(0))) {
        return errors::InvalidArgument("Input shapes are inconsistent on the batch dimension, for ", name());
      }
    }
    return first == nullptr ? errors::InvalidArgument("Input shapes are empty, for ", name()) : absl::OkStatus();
  }

  absl::StatusOr<const char*> Calibrate(OpKernelContext* ctx, const Shapes& shapes, EngineCache* cache) const {
    if (cache->calibration_batches == 0) {
      cache->calibrated = {shapes, implicit_batch_ ? Profiles{UpToBatch(shapes)} : cache->profiles};
    }
    for (size_t i = 0; i < shapes.size(); ++i) {
      if (ctx->input_dtype(i) == DT_RESOURCE) {
        return errors::InvalidArgument("Unsupported data type encountered in input ", i);
      }
      if (shapes[i].num_elements() != cache->calibrated.built_for[i].num_elements()) {
        return errors::Internal("calibration batches of ", engine_name_, " differ in size: the real op aborts here");
      }
    }
    ++cache->calibration_batches;
    return "calibrate";
  }

  // The engine in charge, which these shapes need not fit: there is one for all, except in implicit batch mode.
  const Engine* Find(const Shapes& shapes, const EngineCache& cache) const {
    for (const Engine& engine : cache.engines) {
      if (!implicit_batch_ || static_engine_ || UpToBatch(engine.built_for).Includes(shapes)) return &engine;
    }
    return nullptr;
  }

  const Engine* Build(const Shapes& shapes, EngineCache* cache) const {
    if (static_engine_) {
      const absl::StatusOr<Profiles> stored = Parse(serialized_engine_);
      if (stored.ok()) return cache->Add({shapes, *stored});
    }
    if (!allow_build_) {
      TRT_WARNING << "Found no engine in cache matching input shapes. Not building a new engine because "
                     "allow_build_at_runtime=False. The native segment will be used instead.";
      return cache->Add({shapes, {}});
    }
    // The real op says it at VLOG(1), and in explicit batch mode names the graph's shapes, not the request's.
    std::cerr << absl::StrCat("Building a new TensorRT engine for ", name(), " with input shapes: ",
                              implicit_batch_ ? TensorShapeUtils::ShapeListString(shapes)
                              : PartialTensorShapeUtils::PartialShapeListString(input_shapes_), "\n");
    if (BuildFails()) {
      TRT_WARNING << "Engine creation for " << name() << " failed. The native segment will be used instead. "
                     "Reason: Engine creation aborted by TF_TRT_ABORT_CUDA_ENGINE_BUILD variable";
      return cache->Add({shapes, {}});
    }
    LogEvent("build", engine_name_);
    if (implicit_batch_) return cache->Add({shapes, {UpToBatch(shapes)}});
    return cache->Add({shapes, static_engine_ ? MakeProfiles(strategy_, {shapes}) : cache->profiles});
  }

  std::string engine_name_, serialized_engine_, strategy_;
  NameAttrList segment_;
  FunctionLibraryRuntime::Handle segment_handle_ = kInvalidHandle;
  std::vector<PartialTensorShape> input_shapes_;
  int capacity_;
  bool static_engine_, allow_build_, implicit_batch_, collecting_, calibrating_;
};
REGISTER_KERNEL_BUILDER(Name("TRTEngineOp").Device(DEVICE_CPU), EngineOp);

class CreateHandleOp : public OpKernel {
 public:
  explicit CreateHandleOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("resource_name", &engine_name_));
  }

  void Compute(OpKernelContext* ctx) override {
    Tensor handle(DT_RESOURCE, TensorShape({}));
    handle.scalar<ResourceHandle>()() = MakeResourceHandle<EngineCache>(ctx, kContainer, engine_name_);
    ctx->set_output(0, handle);
  }

 private:
  std::string engine_name_;
};
REGISTER_KERNEL_BUILDER(Name("CreateTRTResourceHandle").Device(DEVICE_CPU), CreateHandleOp);

class InitializeOp : public OpKernel {
 public:
  explicit InitializeOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("max_cached_engines_count", &capacity_));
  }

  void Compute(OpKernelContext* ctx) override {
    const ResourceHandle& handle = HandleFromInput(ctx, 0);
    const std::string filename = ctx->input(1).scalar<tstring>()();
    core::RefCountPtr<EngineCache> cache;
    OP_REQUIRES_OK(ctx, LookupOrCreateResource<EngineCache>(ctx, handle, &cache, EngineCache::Maker(capacity_)));
    mutex_lock lock(cache->mu);
    OP_REQUIRES(ctx, cache->engines.empty(), errors::Internal(
        "Expect engine cache to be empty, but got ", cache->engines.size(), " entries."));
    std::unique_ptr<RandomAccessFile> file;
    OP_REQUIRES_OK(ctx, ctx->env()->NewRandomAccessFile(filename, &file));
    io::RecordReader reader(file.get());
    uint64 offset = 0;
    for (;;) {
      tstring record;
      const absl::Status status = reader.ReadRecord(&offset, &record);
      if (errors::IsOutOfRange(status)) break;
      OP_REQUIRES_OK(ctx, status);  // The real op loops for ever on a damaged file.
      tensorrt::TRTEngineInstance instance;
      instance.ParseFromArray(record.data(), record.size());
      const absl::StatusOr<Profiles> profiles = Parse(instance.serialized_engine());
      OP_REQUIRES(ctx, profiles.ok(), errors::InvalidArgument(filename, ": ", profiles.status().message()));
      if (cache->engines.empty()) cache->profiles = *profiles;
      const auto& shapes = instance.input_shapes();
      cache->Add({Shapes(shapes.begin(), shapes.end()), *profiles});
    }
    LogEvent("load", handle.name());
  }

 private:
  int capacity_;
};
REGISTER_KERNEL_BUILDER(Name("InitializeTRTResource").Device(DEVICE_CPU), InitializeOp);

class SerializeOp : public OpKernel {
 public:
  explicit SerializeOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("delete_resource", &delete_resource_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("save_gpu_specific_engines", &save_engines_));
  }

  void Compute(OpKernelContext* ctx) override {
    const std::string engine_name = ctx->input(0).scalar<tstring>()();
    EngineCache* cache = nullptr;
    OP_REQUIRES(ctx, ctx->resource_manager()->Lookup(kContainer, engine_name, &cache).ok(),
                errors::NotFound("TRTEngineCacheResource not yet created"));
    core::ScopedUnref unref(cache);
    std::unique_ptr<WritableFile> file;
    OP_REQUIRES_OK(ctx, ctx->env()->NewWritableFile(ctx->input(1).scalar<tstring>()(), &file));
    io::RecordWriter writer(file.get());
    mutex_lock lock(cache->mu);
    cache->EndCalibration(engine_name);
    for (const Engine& engine : cache->engines) {
      if (!save_engines_ || engine.profiles.empty()) continue;
      tensorrt::TRTEngineInstance instance;
      for (const TensorShape& shape : engine.built_for) shape.AsProto(instance.add_input_shapes());
      instance.set_serialized_engine(Serialize(engine.profiles));
      OP_REQUIRES_OK(ctx, writer.WriteRecord(instance.SerializeAsString()));
    }
    OP_REQUIRES_OK(ctx, writer.Close());
    OP_REQUIRES_OK(ctx, file->Close());
    LogEvent("save", engine_name);
    if (!delete_resource_) return;
    OP_REQUIRES_OK(ctx, ctx->resource_manager()->Delete<EngineCache>(kContainer, engine_name));
  }

 private:
  bool delete_resource_, save_engines_;
};
REGISTER_KERNEL_BUILDER(Name("SerializeTRTResource").Device(DEVICE_CPU), SerializeOp);

class CalibrationDataOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* ctx) override {
    const std::string engine_name = ctx->input(0).scalar<tstring>()();
    EngineCache* cache = nullptr;
    OP_REQUIRES_OK(ctx, ctx->resource_manager()->Lookup(kContainer, engine_name, &cache));
    core::ScopedUnref unref(cache);
    mutex_lock lock(cache->mu);
    OP_REQUIRES(ctx, cache->calibration_batches > 0, errors::Internal(
        engine_name, " was not calibrated: the real op crashes here"));
    cache->EndCalibration(engine_name);
    Tensor table(DT_STRING, TensorShape({}));
    table.scalar<tstring>()() = absl::StrCat("TRT-shim-calibration ", cache->calibration_batches);
    ctx->set_output(0, table);
  }
};
REGISTER_KERNEL_BUILDER(Name("GetCalibrationDataOp").Device(DEVICE_CPU), CalibrationDataOp);

}  // namespace
}  // namespace trt_cpu_shim
}  // namespace tensorflow
