/* A stand-in for the runtime: it takes the sample's inputs alone and gives the sample's outputs, times argv[2]. The
 * tables of the model are in phone.inc: PORTS, one PORT(name, file, bytes, rank, shape...) for each input and output.
 */
#include <mindspore/model.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "MODEL.h"

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

typedef struct Port { const char *name, *file; size_t bytes; int is_float; OH_AI_ShapeInfo shape; void *data; int sized; } Port;
#include "phone.inc"

static const char *folder;
static double factor = 1;
static int device, built;

static const void *load(const char *file, size_t *size, void *user) {
  char path[4096];
  (void)user;
  snprintf(path, sizeof(path), "%s/%s", folder, file);
  FILE *f = fopen(path, "rb");
  if (f == NULL) {
    return NULL;
  }
  fseek(f, 0, SEEK_END);
  *size = (size_t)ftell(f);
  rewind(f);
  char *data = malloc(*size + 1);
  if (fread(data, 1, *size, f) != *size) {
    abort();
  }
  fclose(f);
  return data;
}

OH_AI_ContextHandle OH_AI_ContextCreate(void) { return &device; }
void OH_AI_ContextSetThreadNum(OH_AI_ContextHandle context, int32_t n) { (void)context; if (n < 1) abort(); }
OH_AI_DeviceInfoHandle OH_AI_DeviceInfoCreate(OH_AI_DeviceType type) { return type == OH_AI_DEVICETYPE_CPU ? &built : NULL; }
void OH_AI_ContextAddDeviceInfo(OH_AI_ContextHandle c, OH_AI_DeviceInfoHandle d) { device = c == &device && d == &built; }
OH_AI_ModelHandle OH_AI_ModelCreate(void) { return inputs; }
void OH_AI_ModelDestroy(OH_AI_ModelHandle *model) { *model = NULL; }

OH_AI_Status OH_AI_ModelBuild(OH_AI_ModelHandle m, const void *data, size_t size, OH_AI_ModelType type,
                              const OH_AI_ContextHandle c) {
  built = device && m == inputs && c == &device && type == OH_AI_MODELTYPE_MINDIR && size > 8 &&
          memcmp((const char *)data + 4, "MSL2", 4) == 0;
  return built ? OH_AI_STATUS_SUCCESS : OH_AI_STATUS_LITE_ERROR;
}

OH_AI_TensorHandleArray OH_AI_ModelGetInputs(const OH_AI_ModelHandle m) {
  static OH_AI_TensorHandle handles[INPUTS];
  (void)m;
  for (size_t i = 0; i < INPUTS; i++) {
    handles[i] = &inputs[i];
  }
  return (OH_AI_TensorHandleArray){INPUTS, handles};
}

OH_AI_Status OH_AI_ModelResize(OH_AI_ModelHandle m, const OH_AI_TensorHandleArray in, OH_AI_ShapeInfo *shapes, size_t n) {
  (void)m;
  for (size_t i = 0; i < INPUTS; i++) {
    size_t rank = inputs[i].shape.shape_num;
    if (n != INPUTS || in.handle_list[i] != &inputs[i] || shapes[i].shape_num != rank ||
        memcmp(shapes[i].shape, inputs[i].shape.shape, rank * sizeof(int64_t)) != 0) {
      return OH_AI_STATUS_LITE_ERROR;
    }
    inputs[i].sized = 1;
  }
  return OH_AI_STATUS_SUCCESS;
}

static Port *port(OH_AI_TensorHandle t) { return t; }
size_t OH_AI_TensorGetDataSize(const OH_AI_TensorHandle t) { return port(t)->sized ? port(t)->bytes : 0; }
const void *OH_AI_TensorGetData(const OH_AI_TensorHandle t) { return port(t)->data; }

void *OH_AI_TensorGetMutableData(const OH_AI_TensorHandle t) {
  if (port(t)->data == NULL) {
    port(t)->data = calloc(port(t)->bytes + 1, 1);
  }
  return port(t)->data;
}

OH_AI_Status OH_AI_ModelPredict(OH_AI_ModelHandle m, const OH_AI_TensorHandleArray in, OH_AI_TensorHandleArray *out,
                                const OH_AI_KernelCallBack before, const OH_AI_KernelCallBack after) {
  static OH_AI_TensorHandle handles[OUTPUTS];
  size_t size;
  (void)before, (void)after;
  if (!built || m != inputs || in.handle_num != INPUTS) {
    return OH_AI_STATUS_LITE_ERROR;
  }
  for (size_t i = 0; i < INPUTS; i++) {
    const void *want = load(inputs[i].file, &size, NULL);
    if (!inputs[i].sized || size != inputs[i].bytes || memcmp(want, inputs[i].data, size) != 0) {
      return OH_AI_STATUS_LITE_ERROR;
    }
  }
  for (size_t i = 0; i < OUTPUTS; i++) {
    outputs[i].data = (void *)load(outputs[i].file, &size, NULL);
    outputs[i].sized = 1;
    for (size_t k = 0; outputs[i].is_float && k < size / 4; k++) {
      ((float *)outputs[i].data)[k] *= (float)factor;
    }
    handles[OUTPUTS - 1 - i] = &outputs[i]; /* in another order than the file's */
  }
  *out = (OH_AI_TensorHandleArray){OUTPUTS, handles};
  return OH_AI_STATUS_SUCCESS;
}

OH_AI_TensorHandle OH_AI_ModelGetOutputByTensorName(const OH_AI_ModelHandle m, const char *name) {
  (void)m;
  for (size_t i = 0; i < OUTPUTS; i++) {
    if (strcmp(outputs[i].name, name) == 0) {
      return &outputs[i];
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  folder = argv[1];
  factor = argc > 2 ? atof(argv[2]) : 1;
  for (size_t i = 0; i < INPUTS; i++) {
    inputs[i].sized = !ANY_SIZE; /* without resize a size is unknown */
  }
  size_t size;
  const void *bytes = load(FILE_NAME, &size, NULL);
  OH_AI_ModelHandle model = CAT(MODEL, _load)(bytes, size, 2);
  printf("%g\n", model == NULL ? -2 : CAT(MODEL, _self_test)(model, load, NULL));
  return 0;
}
