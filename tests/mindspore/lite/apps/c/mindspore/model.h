#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "context.h"
#include "status.h"
#include "tensor.h"
#include "types.h"
#define OH_AI_MAX_SHAPE_NUM 32
typedef void *OH_AI_ModelHandle;
typedef struct OH_AI_TensorHandleArray { size_t handle_num; OH_AI_TensorHandle *handle_list; } OH_AI_TensorHandleArray;
typedef struct OH_AI_ShapeInfo { size_t shape_num; int64_t shape[OH_AI_MAX_SHAPE_NUM]; } OH_AI_ShapeInfo;
typedef struct OH_AI_CallBackParam { char *node_name; char *node_type; } OH_AI_CallBackParam;
typedef bool (*OH_AI_KernelCallBack)(const OH_AI_TensorHandleArray inputs, const OH_AI_TensorHandleArray outputs,
                                     const OH_AI_CallBackParam kernel_Info);
OH_AI_ModelHandle OH_AI_ModelCreate(void);
void OH_AI_ModelDestroy(OH_AI_ModelHandle *model);
OH_AI_Status OH_AI_ModelBuild(OH_AI_ModelHandle model, const void *model_data, size_t data_size,
                              OH_AI_ModelType model_type, const OH_AI_ContextHandle model_context);
OH_AI_Status OH_AI_ModelResize(OH_AI_ModelHandle model, const OH_AI_TensorHandleArray inputs,
                               OH_AI_ShapeInfo *shape_infos, size_t shape_info_num);
OH_AI_Status OH_AI_ModelPredict(OH_AI_ModelHandle model, const OH_AI_TensorHandleArray inputs,
                                OH_AI_TensorHandleArray *outputs, const OH_AI_KernelCallBack before,
                                const OH_AI_KernelCallBack after);
OH_AI_TensorHandleArray OH_AI_ModelGetInputs(const OH_AI_ModelHandle model);
OH_AI_TensorHandle OH_AI_ModelGetOutputByTensorName(const OH_AI_ModelHandle model, const char *tensor_name);
