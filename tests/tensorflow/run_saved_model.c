/* Loads a SavedModel with TensorFlow's C API and runs it once: no Python in the process.
 *
 *   run_saved_model FOLDER [-i OP:INDEX DTYPE DIMS FILE]... [-o OP:INDEX FILE]... [-t RUNS]
 *
 * DTYPE is the number of a TF_DataType, DIMS are joined by commas ("-" for rank 0), FILE holds the
 * elements as they lie in memory. For each output a line "DTYPE DIMS" is printed and its elements are
 * written. With -t the run is repeated and the seconds of the fastest are printed last.
 * Exit code: 2 usage, 3 the model does not load, 4 it does not run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensorflow/c/c_api.h"

#define MAX_ENDS 64
#define MAX_RANK 16

static void fail(int code, const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(code);
}

static void check(int code, const char *what, const TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail(code, what, TF_Message(status));
}

/* The output of the graph that "OP:INDEX" names. */
static TF_Output end_of(TF_Graph *graph, const char *name) {
  char op[512];
  const char *colon = strrchr(name, ':');
  if (!colon || colon - name >= (long)sizeof op) fail(2, "not OP:INDEX", name);
  memcpy(op, name, colon - name);
  op[colon - name] = 0;
  TF_Output out = {TF_GraphOperationByName(graph, op), atoi(colon + 1)};
  if (!out.oper) fail(3, "no such op", op);
  return out;
}

static TF_Tensor *read_tensor(TF_DataType dtype, const char *dims, const char *path) {
  int64_t shape[MAX_RANK];
  int rank = 0;
  size_t bytes = TF_DataTypeSize(dtype);
  for (const char *p = dims; *p && *p != '-';) {
    if (rank == MAX_RANK) fail(2, "rank too high", dims);
    char *next;
    shape[rank] = strtoll(p, &next, 10);
    bytes *= shape[rank++];
    p = *next == ',' ? next + 1 : next;
  }
  TF_Tensor *tensor = TF_AllocateTensor(dtype, shape, rank, bytes);
  FILE *file = fopen(path, "rb");
  if (!file || fread(TF_TensorData(tensor), 1, bytes, file) != bytes) fail(2, "cannot read", path);
  fclose(file);
  return tensor;
}

static void write_tensor(const TF_Tensor *tensor, const char *path) {
  printf("%d ", TF_TensorType(tensor));
  if (!TF_NumDims(tensor)) printf("-");
  for (int i = 0; i < TF_NumDims(tensor); i++) printf(i ? ",%lld" : "%lld", (long long)TF_Dim(tensor, i));
  printf("\n");
  FILE *file = fopen(path, "wb");
  size_t bytes = TF_TensorByteSize(tensor);
  if (!file || fwrite(TF_TensorData(tensor), 1, bytes, file) != bytes) fail(4, "cannot write", path);
  fclose(file);
}

int main(int argc, char **argv) {
  TF_Output inputs[MAX_ENDS], outputs[MAX_ENDS];
  TF_Tensor *values[MAX_ENDS], *results[MAX_ENDS];
  const char *files[MAX_ENDS];
  int ins = 0, outs = 0, runs = 0;
  if (argc < 2) fail(2, "usage", "run_saved_model FOLDER [-i ...] [-o ...] [-t RUNS]");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(
      TF_NewSessionOptions(), NULL, argv[1], tags, 1, graph, NULL, status);
  check(3, "cannot load", status);
  for (int i = 2; i < argc;) {
    if (!strcmp(argv[i], "-i") && i + 4 < argc && ins < MAX_ENDS) {
      inputs[ins] = end_of(graph, argv[i + 1]);
      values[ins++] = read_tensor((TF_DataType)atoi(argv[i + 2]), argv[i + 3], argv[i + 4]);
      i += 5;
    } else if (!strcmp(argv[i], "-o") && i + 2 < argc && outs < MAX_ENDS) {
      outputs[outs] = end_of(graph, argv[i + 1]);
      files[outs++] = argv[i + 2];
      i += 3;
    } else if (!strcmp(argv[i], "-t") && i + 1 < argc) {
      runs = atoi(argv[i + 1]);
      i += 2;
    } else {
      fail(2, "unknown argument", argv[i]);
    }
  }
  double fastest = 1e9;
  for (int i = 0; i <= runs; i++) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    TF_SessionRun(session, NULL, inputs, values, ins, outputs, results, outs, NULL, 0, NULL, status);
    clock_gettime(CLOCK_MONOTONIC, &b);
    check(4, "cannot run", status);
    double seconds = (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) * 1e-9;
    if (seconds < fastest) fastest = seconds;
    if (i < runs)
      for (int k = 0; k < outs; k++) TF_DeleteTensor(results[k]);
  }
  for (int i = 0; i < outs; i++) write_tensor(results[i], files[i]);
  if (runs) printf("%.9f\n", fastest);
  return 0;
}
