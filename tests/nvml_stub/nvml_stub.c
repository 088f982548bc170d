/* A libnvidia-ml.so.1 for machines without a driver: what it tells is in the file that NVML_STUB names.

       gpu UUID TOTAL FREE NAME     a GPU, in bytes
       process GPU PID USED         a process on the GPU of that index; USED -1 where the driver does not say

   Without that file there is no driver. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
enum { MOST = 8 };

struct memory { unsigned long long total, free, used; };
struct process { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; };
static struct gpu {
    char uuid[80], name[80];
    struct memory memory;
    unsigned int processes;
    struct process process[MOST];
} gpus[MOST];
static unsigned int count;

int nvmlInitWithFlags(unsigned int flags)
{
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[400];
    (void)flags;
    if (!file) return DRIVER_NOT_LOADED;
    for (count = 0; fgets(line, sizeof line, file);) {
        struct gpu gpu = {0};
        struct process process = {0};
        unsigned int at;
        long long used;
        if (sscanf(line, "gpu %79s %llu %llu %79[^\n]", gpu.uuid, &gpu.memory.total, &gpu.memory.free, gpu.name) == 4
            && count < MOST) {
            gpu.memory.used = gpu.memory.total - gpu.memory.free;
            gpus[count++] = gpu;
        } else if (sscanf(line, "process %u %u %lld", &at, &process.pid, &used) == 3 && at < count
                   && gpus[at].processes < MOST) {
            process.used = (unsigned long long)used;
            gpus[at].process[gpus[at].processes++] = process;
        }
    }
    fclose(file);
    return SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int result) { return result == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Error"; }

int nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    snprintf(version, length, "535.1");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *found)
{
    *found = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct gpu **gpu)
{
    *gpu = &gpus[index];
    return index < count ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **gpu)
{
    for (unsigned int at = 0; at < count; at++)
        if (!strcmp(gpus[at].uuid, uuid)) {
            *gpu = &gpus[at];
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(struct gpu *gpu, char *uuid, unsigned int length)
{
    snprintf(uuid, length, "%s", gpu->uuid);
    return SUCCESS;
}

int nvmlDeviceGetName(struct gpu *gpu, char *name, unsigned int length)
{
    snprintf(name, length, "%s", gpu->name);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct gpu *gpu, struct memory *memory)
{
    *memory = gpu->memory;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *gpu, unsigned int *room, struct process *found)
{
    if (*room < gpu->processes) {
        *room = gpu->processes;
        return INSUFFICIENT_SIZE;
    }
    memcpy(found, gpu->process, gpu->processes * sizeof *found);
    *room = gpu->processes;
    return SUCCESS;
}
