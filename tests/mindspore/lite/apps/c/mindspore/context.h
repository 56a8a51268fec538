#pragma once
#include <stdint.h>
#include "types.h"
typedef void *OH_AI_ContextHandle;
typedef void *OH_AI_DeviceInfoHandle;
OH_AI_ContextHandle OH_AI_ContextCreate(void);
void OH_AI_ContextSetThreadNum(OH_AI_ContextHandle context, int32_t thread_num);
void OH_AI_ContextAddDeviceInfo(OH_AI_ContextHandle context, OH_AI_DeviceInfoHandle device_info);
OH_AI_DeviceInfoHandle OH_AI_DeviceInfoCreate(OH_AI_DeviceType device_type);
