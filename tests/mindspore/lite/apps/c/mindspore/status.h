#pragma once
typedef enum OH_AI_Status { OH_AI_STATUS_SUCCESS = 0, OH_AI_STATUS_LITE_ERROR = (int)0xFFFFFFFF } OH_AI_Status;
