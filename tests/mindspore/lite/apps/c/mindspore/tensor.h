#pragma once
#include <stddef.h>
typedef void *OH_AI_TensorHandle;
const void *OH_AI_TensorGetData(const OH_AI_TensorHandle tensor);
void *OH_AI_TensorGetMutableData(const OH_AI_TensorHandle tensor);
size_t OH_AI_TensorGetDataSize(const OH_AI_TensorHandle tensor);
