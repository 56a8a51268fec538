#include "${name}_model.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char *const OUTPUTS[] = {$output_names_c};
static const char *const OUTPUT_DTYPES[] = {$output_dtypes};
static const char *const GOLDEN_INPUTS[] = {$golden_inputs};
static const char *const GOLDEN_OUTPUTS[] = {$golden_outputs};
static const bool ANY_SIZE = $any_size;
static const OH_AI_ShapeInfo GOLDEN_SHAPES[] = {$golden_shapes_c};

OH_AI_ModelHandle ${name}_load(const void *bytes, size_t size, int threads) {
  OH_AI_ContextHandle context = OH_AI_ContextCreate();
  OH_AI_DeviceInfoHandle cpu = OH_AI_DeviceInfoCreate(OH_AI_DEVICETYPE_CPU);
  OH_AI_ModelHandle model = OH_AI_ModelCreate();
  if (context == NULL || cpu == NULL || model == NULL) {
    return NULL;
  }
  OH_AI_ContextSetThreadNum(context, threads);
  OH_AI_ContextAddDeviceInfo(context, cpu);
  if (OH_AI_ModelBuild(model, bytes, size, OH_AI_MODELTYPE_MINDIR, context) != OH_AI_STATUS_SUCCESS) {
    OH_AI_ModelDestroy(&model);
    return NULL;
  }
  return model;
}

int ${name}_run(OH_AI_ModelHandle model, const void *const inputs[$inputs], const void *outputs[$outputs]) {
  OH_AI_TensorHandleArray given = OH_AI_ModelGetInputs(model);
  if (given.handle_num != $inputs) {
    return -1;
  }
  for (size_t i = 0; i < $inputs; i++) {
    void *data = OH_AI_TensorGetMutableData(given.handle_list[i]);
    if (data == NULL) {
      return -1;
    }
    memcpy(data, inputs[i], OH_AI_TensorGetDataSize(given.handle_list[i]));
  }
  OH_AI_TensorHandleArray results;
  if (OH_AI_ModelPredict(model, given, &results, NULL, NULL) != OH_AI_STATUS_SUCCESS) {
    return -1;
  }
  for (size_t i = 0; i < $outputs; i++) {
    OH_AI_TensorHandle tensor = OH_AI_ModelGetOutputByTensorName(model, OUTPUTS[i]);
    outputs[i] = tensor == NULL ? NULL : OH_AI_TensorGetData(tensor);
    if (outputs[i] == NULL) {
      return -1;
    }
  }
  return 0;
}

static double element(const void *data, size_t i, const char *dtype) {
  if (strcmp(dtype, "float32") == 0) {
    return ((const float *)data)[i];
  }
  if (strcmp(dtype, "int32") == 0) {
    return ((const int32_t *)data)[i];
  }
  if (strcmp(dtype, "int64") == 0) {
    return (double)((const int64_t *)data)[i];
  }
  return ((const int8_t *)data)[i];
}

static size_t width(const char *dtype) {
  return strcmp(dtype, "int64") == 0 ? 8 : strcmp(dtype, "bool") == 0 ? 1 : 4;
}

static double distance(const void *found, const void *wanted, size_t bytes, const char *dtype) {
  double gap = 0;
  double top = 1e-6;
  for (size_t i = 0; i < bytes / width(dtype); i++) {
    double a = element(found, i, dtype);
    double b = element(wanted, i, dtype);
    if (isnan(a) != isnan(b)) {
      return HUGE_VAL;
    }
    gap = fmax(gap, a == b ? 0 : fabs(a - b));
    top = fmax(top, fabs(b));
  }
  return gap / top;
}

double ${name}_self_test(OH_AI_ModelHandle model, ${name}_read read, void *user) {
  const void *inputs[$inputs];
  const void *outputs[$outputs];
  size_t size;
  OH_AI_ShapeInfo shapes[$inputs];
  memcpy(shapes, GOLDEN_SHAPES, sizeof(shapes));
  if (ANY_SIZE && OH_AI_ModelResize(model, OH_AI_ModelGetInputs(model), shapes, $inputs) != OH_AI_STATUS_SUCCESS) {
    return -1;
  }
  OH_AI_TensorHandleArray given = OH_AI_ModelGetInputs(model);
  for (size_t i = 0; i < $inputs; i++) {
    inputs[i] = read(GOLDEN_INPUTS[i], &size, user);
    if (inputs[i] == NULL || size != OH_AI_TensorGetDataSize(given.handle_list[i])) {
      return -1;
    }
  }
  if (${name}_run(model, inputs, outputs) != 0) {
    return -1;
  }
  double worst = 0;
  for (size_t i = 0; i < $outputs; i++) {
    const void *wanted = read(GOLDEN_OUTPUTS[i], &size, user);
    if (wanted == NULL || size != OH_AI_TensorGetDataSize(OH_AI_ModelGetOutputByTensorName(model, OUTPUTS[i]))) {
      return -1;
    }
    worst = fmax(worst, distance(outputs[i], wanted, size, OUTPUT_DTYPES[i]));
  }
  return worst;
}
