// Part of the binding: connects TensorFlow to the other processes ("ranks") of a run. The linker's --wrap=TFE_NewContext makes the binding call the function below,
// which starts TensorFlow's server for collective ops before the context's devices are listed: with it, they have other names.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "tensorflow/c/eager/c_api.h"

// Exported by TensorFlow's library, but declared in no header of its package (tensorflow/c/eager/c_api_experimental.h, tag v2.21.0).
extern "C" {
void TFE_EnableCollectiveOps(TFE_Context* context, const void* server, size_t length, TF_Status* status);
void TFE_AbortCollectiveOps(TFE_Context* context, TF_Status* status);
void TFE_CollectiveOpsCheckPeerHealth(TFE_Context* context, const char* task, int64_t timeout_ms, TF_Status* status);
TFE_Context* __real_TFE_NewContext(const TFE_ContextOptions* options, TF_Status* status);
}

namespace {

// A rank that dies makes the others' ops fail within a second, but one that hangs does not. So each rank asks the others in turn whether they respond: the first that
// does not is reported after at most kPauseMs + kTimeoutMs.
constexpr int kPauseMs = 3000;
constexpr int64_t kTimeoutMs = 10'000;

using Status = std::unique_ptr<TF_Status, decltype(&TF_DeleteStatus)>;

std::string FromHex(const char* digits) {
  std::string bytes;
  for (; digits[0] != '\0' && digits[1] != '\0'; digits += 2) bytes.push_back(static_cast<char>(std::stoi(std::string(digits, 2), nullptr, 16)));
  return bytes;
}

std::atomic<bool> exiting{false};

// Once the writing end of the pipe is closed, checks the other ranks until one does not respond: then all pending and later collective ops fail with a message
// that names it. A check of a rank that has not started yet would make the next ops fail that need a connection to it.
void CheckPeers(TFE_Context* context, int ranks, int own, int pipe_to_read) {
  char byte;
  while (read(pipe_to_read, &byte, 1) > 0) {
  }
  for (;;) {
    for (int rank = 0; rank < ranks; rank++) {
      if (exiting) return;
      if (rank == own) continue;
      const std::string task = "/job:worker/replica:0/task:" + std::to_string(rank);
      const Status status(TF_NewStatus(), TF_DeleteStatus);
      TFE_CollectiveOpsCheckPeerHealth(context, task.c_str(), kTimeoutMs, status.get());
      if (exiting) return;
      if (TF_GetCode(status.get()) == TF_OK) continue;
      TF_SetStatus(status.get(), TF_UNAVAILABLE, (task + " does not respond").c_str());
      TFE_AbortCollectiveOps(context, status.get());
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMs));
  }
}

}  // namespace

// NEXTVLAD_SERVER is a ServerDef (tensorflow/core/protobuf/tensorflow_server.proto) in hexadecimal digits, NEXTVLAD_RANKS the number of ranks and this one's.
// Without them, the process is on its own. Returns in NEXTVLAD_PIPE the file descriptor to close once all ranks have connected, which starts the checks, or in
// NEXTVLAD_SERVER_ERROR an error, because the binding does not pass on this function's.
extern "C" TFE_Context* __wrap_TFE_NewContext(const TFE_ContextOptions* options, TF_Status* status) {
  TFE_Context* context = __real_TFE_NewContext(options, status);
  const char* server = std::getenv("NEXTVLAD_SERVER");
  const char* numbers = std::getenv("NEXTVLAD_RANKS");
  if (context == nullptr || server == nullptr || numbers == nullptr) return context;
  const std::string message = FromHex(server);
  const Status failure(TF_NewStatus(), TF_DeleteStatus);
  TFE_EnableCollectiveOps(context, message.data(), message.size(), failure.get());
  if (TF_GetCode(failure.get()) != TF_OK) {
    setenv("NEXTVLAD_SERVER_ERROR", TF_Message(failure.get()), 1);
    return context;
  }
  char* rest = nullptr;
  const int ranks = static_cast<int>(std::strtol(numbers, &rest, 10)), own = static_cast<int>(std::strtol(rest, nullptr, 10));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    setenv("NEXTVLAD_SERVER_ERROR", std::strerror(errno), 1);
    return context;
  }
  setenv("NEXTVLAD_PIPE", std::to_string(ends[1]).c_str(), 1);
  std::atexit([] { exiting = true; });
  std::thread(CheckPeers, context, ranks, own, ends[0]).detach();
  return context;
}
