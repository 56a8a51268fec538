/*
 * $title
 *
$interface
 *
 * Link libmindspore_lite_ndk.so.
 */
#ifndef ${NAME}_MODEL_H
#define ${NAME}_MODEL_H

#include <mindspore/context.h>
#include <mindspore/model.h>
#include <mindspore/status.h>
#include <mindspore/tensor.h>
#include <mindspore/types.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a file of the package, their number in *size; NULL when there is none. */
typedef const void *(*${name}_read)(const char *file, size_t *size, void *user);

/* The model, which OH_AI_ModelDestroy frees; NULL when MindSpore Lite does not load it. */
OH_AI_ModelHandle ${name}_load(const void *bytes, size_t size, int threads);

/* Copies the inputs in, runs, and gives pointers to the results, which stay valid until the next call: 0, or -1. */
int ${name}_run(OH_AI_ModelHandle model, const void *const inputs[$inputs], const void *outputs[$outputs]);

/* Runs the sample that came with the model: its scaled error, or -1 when it does not run. At most $tolerance is right. */
double ${name}_self_test(OH_AI_ModelHandle model, ${name}_read read, void *user);

#ifdef __cplusplus
}
#endif
#endif
