// The simulated engines of `trt_cpu_shim.cc`: the shapes that they take, their bytes, the cache that holds them.
#ifndef TRT_CPU_SHIM_ENGINE_CACHE_H_
#define TRT_CPU_SHIM_ENGINE_CACHE_H_

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tensorflow/core/framework/attr_value_util.h"
#include "tensorflow/core/framework/node_def_util.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/platform/errors.h"
#include "tensorflow/core/util/env_var.h"

namespace tensorflow {
namespace trt_cpu_shim {

inline void LogEvent(const char* event, const std::string& engine) {
  const char* path = std::getenv("TRT_SHIM_LOG");  // One write a line: threads and processes do not mix them.
  if (path != nullptr) std::ofstream(path, std::ios::app) << absl::StrCat(event, " ", engine, "\n");
}

inline bool EnvFlag(const char* name, bool otherwise) {
  bool value = otherwise;
  return ReadBoolFromEnvVar(name, otherwise, &value).ok() ? value : otherwise;
}
inline bool BuildFails() { return EnvFlag("TF_TRT_ABORT_CUDA_ENGINE_BUILD", false); }

using Shapes = std::vector<TensorShape>;  // One shape an input.

struct Profile {
  Shapes min, max;  // Both inclusive.

  bool Includes(const Shapes& shapes) const {
    if (shapes.size() != min.size()) return false;
    for (size_t i = 0; i < shapes.size(); ++i) {
      if (shapes[i].dims() != min[i].dims()) return false;
      for (int d = 0; d < shapes[i].dims(); ++d) {
        const int64_t size = shapes[i].dim_size(d);
        if (size < min[i].dim_size(d) || size > max[i].dim_size(d)) return false;
      }
    }
    return true;
  }
};
using Profiles = std::vector<Profile>;

// All batches up to that of `shapes`: what an engine of implicit batch mode takes.
inline Profile UpToBatch(const Shapes& shapes) {
  Profile profile{shapes, shapes};
  for (TensorShape& shape : profile.min) {
    if (shape.dims() > 0) shape.set_dim(0, 1);
  }
  return profile;
}

inline Profile Span(const std::vector<Shapes>& requests) {
  Profile span{requests[0], requests[0]};
  for (const Shapes& shapes : requests) {
    for (size_t i = 0; i < shapes.size(); ++i) {
      for (int d = 0; d < shapes[i].dims(); ++d) {
        span.min[i].set_dim(d, std::min(span.min[i].dim_size(d), shapes[i].dim_size(d)));
        span.max[i].set_dim(d, std::max(span.max[i].dim_size(d), shapes[i].dim_size(d)));
      }
    }
  }
  return span;
}

// What an engine is built for, given requests; `strategy` in lower case. (ImplicitBatchModeCompatible on a graph
// of fixed batch is not narrowed to that batch: other batches never come this far.)
inline Profiles MakeProfiles(const std::string& strategy, const std::vector<Shapes>& requests) {
  Profiles profiles;
  for (const Shapes& shapes : requests) {
    if (strategy == "implicitbatchmodecompatible") profiles.push_back(UpToBatch(shapes));
    if (strategy == "optimal" || strategy == "range+optimal") profiles.push_back({shapes, shapes});
  }
  if (strategy == "range" || strategy == "range+optimal") profiles.push_back(Span(requests));
  return profiles;
}

// The bytes of an engine: the magic word, then an AttrValue with a list.func for each profile, whose attributes
// min and max are lists of shapes. So a test reads them with TensorFlow's own attr_value_pb2.
constexpr char kMagic[] = "TRT-shim-engine";

inline std::string Serialize(const Profiles& profiles) {
  AttrValue engine;
  for (const Profile& profile : profiles) {
    auto& attributes = *engine.mutable_list()->add_func()->mutable_attr();
    SetAttrValue(profile.min, &attributes["min"]);
    SetAttrValue(profile.max, &attributes["max"]);
  }
  return absl::StrCat(kMagic, engine.SerializeAsString());
}

inline absl::StatusOr<Profiles> Parse(absl::string_view bytes) {
  AttrValue engine;
  if (!absl::ConsumePrefix(&bytes, kMagic) || !engine.ParseFromArray(bytes.data(), bytes.size())) {
    return errors::InvalidArgument("not an engine of this shim");
  }
  Profiles profiles(engine.list().func_size());
  for (size_t i = 0; i < profiles.size(); ++i) {
    const AttrSlice attributes(&engine.list().func(i).attr());
    TF_RETURN_IF_ERROR(GetNodeAttr(attributes, "min", &profiles[i].min));
    TF_RETURN_IF_ERROR(GetNodeAttr(attributes, "max", &profiles[i].max));
  }
  return profiles;
}

struct Engine {
  Shapes built_for;   // The request that it was built for: its key in the cache.
  Profiles profiles;  // None: building failed, and nobody tries again.
};

// What all instances of a TRTEngineOp share on their device, in the resource manager's container:
constexpr char kContainer[] = "TF-TRT";

struct EngineCache : public ResourceBase {
  explicit EngineCache(int capacity) : capacity(capacity) {}
  static std::function<absl::Status(EngineCache**)> Maker(int capacity) {
    return [capacity](EngineCache** cache) {
      *cache = new EngineCache(capacity);
      return absl::OkStatus();
    };
  }
  std::string DebugString() const override { return "TF-TRT's engine cache, simulated on the CPU"; }

  // When the cache is full, the oldest entry goes: one that only says 'failed' may push out a good engine. The real
  // cache, although called LRU, does the same: its lookups by shape do not count as use.
  const Engine* Add(Engine engine) {
    if (engines.size() >= static_cast<size_t>(capacity)) engines.pop_front();
    engines.push_back(std::move(engine));
    return &engines.back();
  }

  // The real thing builds in a thread while batches come in, and hands the engine over when somebody asks for the
  // table or serializes.
  void EndCalibration(const std::string& engine_name) {
    if (calibration_batches == 0 || calibration_ended) return;
    calibration_ended = true;
    if (BuildFails()) calibrated.profiles.clear();
    if (!calibrated.profiles.empty()) LogEvent("build", engine_name);
    Add(calibrated);
  }

  const int capacity;
  mutex mu;  // Guards all that follows.
  std::vector<Shapes> collected;
  Profiles profiles;  // What an engine is built for; once made they stay.
  std::list<Engine> engines;
  Engine calibrated;
  int calibration_batches = 0;
  bool calibration_ended = false;
};

}  // namespace trt_cpu_shim
}  // namespace tensorflow

#endif  // TRT_CPU_SHIM_ENGINE_CACHE_H_
