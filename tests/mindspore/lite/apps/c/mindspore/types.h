#pragma once
/* As declared by HarmonyOS. */
typedef enum OH_AI_ModelType { OH_AI_MODELTYPE_MINDIR = 0, OH_AI_MODELTYPE_INVALID = (int)0xFFFFFFFF } OH_AI_ModelType;
typedef enum OH_AI_DeviceType { OH_AI_DEVICETYPE_CPU = 0, OH_AI_DEVICETYPE_NNRT = 60 } OH_AI_DeviceType;
