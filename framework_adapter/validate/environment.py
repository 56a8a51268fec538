"""Where a validation ran: versions, CPU, threads. Imports no framework; asks those loaded."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "tensorflow", "keras", "mindspore")
_ISA = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd", "sve")


def cpus() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(
    versions: dict[str, str] | None = None, *, threads: int | None = None
) -> dict[str, str]:
    """Facts by label, in the order to show them.

    Args:
        versions: further versions (of the source framework), shown as they are.
        threads: threads that ONNX Runtime was pinned to.
    """
    cpu, flags = _cpu()
    out = {
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "CPU": f"{cpu}, {cpus()} usable",
    }
    isa = [f for f in _ISA if f in flags]
    if isa:
        out["Instruction sets"] = ", ".join(isa)
    out["Threads"] = thread_counts(threads)
    if hasattr(os, "getloadavg"):
        out["Load"] = f"{os.getloadavg()[0]:.1f} processes on average in the last minute"
    out.update(versions or {})
    loaded = {p: _version(p) for p in _PACKAGES if p in sys.modules and p not in out}
    out.update({k: v for k, v in loaded.items() if v})
    return out


def thread_counts(onnxruntime: int | None = None) -> str:
    """Thread counts of the engines in this process, in words."""
    parts = [f"ONNX Runtime {onnxruntime} (pinned, not spinning)"] if onnxruntime else []
    if torch := sys.modules.get("torch"):
        parts.append(f"PyTorch {torch.get_num_threads()}")
    if tf := sys.modules.get("tensorflow"):
        n = tf.config.threading.get_intra_op_parallelism_threads()
        parts.append(f"TensorFlow {n or 'its default'}")
    if "mindspore" in sys.modules:
        parts.append("MindSpore its default")
    if omp := os.environ.get("OMP_NUM_THREADS"):
        parts.append(f"OMP_NUM_THREADS={omp}")
    return ", ".join(parts) or "engine defaults"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # tensorflow-cpu, torch nightlies: the module knows
        return str(getattr(sys.modules[package], "__version__", ""))


def _cpu() -> tuple[str, frozenset[str]]:
    name, flags = platform.processor() or "unknown CPU", frozenset[str]()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            match key.strip():
                case "model name":
                    name = value.strip()
                case "flags" | "Features":
                    flags = frozenset(value.split())
    return name, flags
