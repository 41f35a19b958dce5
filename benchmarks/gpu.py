"""Generated Triton kernels on a GPU: whether they are right, then how fast, beside torch's own and what the chip can do.

    python benchmarks/gpu.py [NAME ...] [--lengths ...] [--widths ...] [--dtypes ...]

NAME is the beginning of a case's name; without one all are measured. It needs torch and Triton, and of this project only the
files in `generated/`. Nothing is timed before every kernel has met the direct form: in float64 that is what is right, and a
kernel may be twice as far from it as the direct form of the same dtype is, and one rounding of the largest number that it adds
up. (The verdict of the harness is sharper: it needs no direct form, and a bound for every number.)

All contenders of a case take turns in one process, `--rounds` times; a row has the middle of their times and the extremes. A
backward pass is timed alone, on a forward pass that is kept. TFLOP/s count the pairs that are seen, 4 operations each for a
number of a head, and 2.5 times as many backward. `copy` and `matmul` are what the chip can do, in the same run. Results go to
results/gpu.json, with the chip and the versions. `--device cpu` does the same in Triton's interpreter; its times mean nothing.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "gpu.json"
SDPA, JAX = "torch_nn_functional_scaled_dot_product_attention", "jax_nn_dot_product_attention"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
WINDOW, CAP, DOCUMENTS = 1024, 50.0, 8
Call = Callable[[], Any]
Attention = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One attention of `length` queries and keys, or of one query for `decode`."""

    kind: str
    length: int
    width: int
    dtype: str
    batch: int
    heads: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.length}-{self.width}-{self.dtype}"

    @property
    def queries(self) -> int:
        return 1 if self.kind == "decode" else self.length

    @property
    def key_heads(self) -> int:
        return max(1, self.heads // 8) if self.kind == "decode" else self.heads

    @property
    def pairs(self) -> int:
        """Of queries and keys that see each other, in one head."""
        T = self.length
        match self.kind:
            case "full" | "bias":
                return T * T
            case "decode":
                return T
            case "window":
                inside = min(WINDOW, T)
                return inside * (inside + 1) // 2 + (T - inside) * inside
            case "documents":
                own = T // DOCUMENTS
                return DOCUMENTS * own * (own + 1) // 2
        return T * (T + 1) // 2


NAMES = ("output", "d_query", "d_key", "d_value")
KINDS = ("full", "causal", "window", "capped", "documents", "bias", "lengths", "decode")


@functools.cache
def module(target: str, name: str) -> ModuleType:
    """A generated file, on its own."""
    spec = importlib.util.spec_from_file_location(f"{target}_{name}", ROOT / "generated" / target / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[loaded.__name__] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def generated(case: Case, target: str, device: str) -> Attention:
    """A case's attention of (B, T, N, H) tensors, from `generated/<target>`."""
    heads_first = functools.partial(_heads_first, module(target, SDPA).scaled_dot_product_attention)
    match case.kind:
        case "full":
            return heads_first
        case "decode":
            return functools.partial(heads_first, enable_gqa=True)
        case "bias":
            return functools.partial(heads_first, attn_mask=bias(case, device))
        case "window":
            longformer: Attention = module(target, "longformer").longformer
            return functools.partial(longformer, left=WINDOW - 1, right=0, global_tokens=0)
        case "capped":
            gemma2: Attention = module(target, "gemma2").gemma2
            return functools.partial(gemma2, cap=CAP, left=case.length)
        case "documents":
            ids = documents(case, device)
            packed: Attention = module(target, "packed_documents").packed_documents
            return functools.partial(packed, query_segment_ids=ids, key_value_segment_ids=ids)
        case "lengths":
            lengths = torch.full((case.batch,), case.length, dtype=torch.int32, device=device)
            jax: Attention = module(target, JAX).dot_product_attention
            return functools.partial(jax, is_causal=True, key_value_seq_lengths=lengths)
    causal: Attention = module(target, "causal_gqa").causal_gqa
    return causal


def _heads_first(attend: Attention, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    return attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), **options).transpose(1, 2)


def bias(case: Case, device: str) -> Tensor:
    """One for all heads and batch rows."""
    t, s = torch.arange(case.length, device=device)[:, None], torch.arange(case.length, device=device)
    return (-(t - s).abs() / case.length).to(DTYPES[case.dtype])


def documents(case: Case, device: str) -> Tensor:
    """The document of every token; all are of one length."""
    ids = torch.arange(case.length, device=device) * DOCUMENTS // case.length
    return ids.expand(case.batch, case.length)


def inputs(case: Case, device: str) -> list[Tensor]:
    """Query, key, value and a cotangent."""
    generator = torch.Generator(device).manual_seed(0)
    shapes = [
        (case.queries, case.heads),
        (case.length, case.key_heads),
        (case.length, case.key_heads),
        (case.queries, case.heads),
    ]
    return [
        torch.randn(case.batch, length, heads, case.width, generator=generator, device=device).to(DTYPES[case.dtype])
        for length, heads in shapes
    ]


# -- right first -----------------------------------------------------------------------------------------------------


def wrong(case: Case, device: str) -> Iterator[str]:
    """What of a case's output and gradients is farther off than it may be."""
    query, key, value, cotangent = inputs(case, device)
    tensors = [query, key, value]
    wide = [tensor.double() for tensor in tensors]
    exact = results(_in_double(generated(case, "torch", device)), wide, cotangent.double())
    direct = results(generated(case, "torch", device), tensors, cotangent)
    found = results(generated(case, "triton", device), tensors, cotangent)
    for name, right, near, own, most in zip(NAMES, exact, direct, found, largest(query, key, value, cotangent), strict=True):
        allowed = 2 * _error(near, right) + torch.finfo(own.dtype).eps * most
        if not _error(own, right) <= allowed:
            yield f"{case.name}: {name} is off by {_error(own, right):.2g}, may be by {allowed:.2g}"


def largest(query: Tensor, key: Tensor, value: Tensor, d_output: Tensor) -> tuple[float, ...]:
    """Of the output and the gradients, about the largest numbers that are added up: those of query and key are differences."""
    d_weight = float(value.norm(dim=-1).max() * d_output.norm(dim=-1).max()) * query.shape[-1] ** -0.5
    in_query, in_key = (d_weight * float(other.abs().max()) for other in (key, query))
    return float(value.abs().max()), in_query, in_key, float(d_output.norm(dim=1).max())


def _in_double(attend: Attention) -> Attention:
    """The same with what it is given besides in float64 too."""
    if not isinstance(attend, functools.partial):
        return attend
    options = {
        name: option.double() if isinstance(option, Tensor) and option.is_floating_point() else option
        for name, option in attend.keywords.items()
    }
    return functools.partial(attend.func, *attend.args, **options)


def _error(found: Tensor, right: Tensor) -> float:
    return float((found.double() - right).abs().max()) if right.numel() else 0.0


def results(attend: Attention, tensors: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    """The output and the gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = attend(*leaves)
    return (output.detach(), *torch.autograd.grad(output, leaves, cotangent))


# -- then how fast -----------------------------------------------------------------------------------------------------


def contenders(case: Case, device: str) -> Iterator[tuple[str, Attention, bool]]:
    """Who takes part: a name, an attention, and whether its tensors have heads before lengths."""
    yield "generated", generated(case, "triton", device), False
    if device == "cpu":
        return
    masks = {"attn_mask": bias(case, device)} if case.kind == "bias" else {"is_causal": case.kind == "causal"}
    if case.kind in ("full", "causal", "bias", "decode"):
        for name, backend in BACKENDS.items():
            yield f"sdpa {name}", functools.partial(_with_backend, backend, enable_gqa=case.kind == "decode", **masks), True
    yield "flex", flex(case, device), True


def _with_backend(backend: SDPBackend, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(query, key, value, **options)


def flex(case: Case, device: str) -> Attention:
    """FlexAttention, compiled, with the blocks of the case's mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    ids = documents(case, device)[0]
    added: Any = bias(case, device) if case.kind == "bias" else None
    rules: dict[str, Callable[..., Any]] = {
        "window": lambda b, n, t, s: (s <= t) & (t - s < WINDOW),
        "documents": lambda b, n, t, s: (s <= t) & (ids[t] == ids[s]),
    }
    changes: dict[str, Callable[..., Any]] = {
        "capped": lambda logit, b, n, t, s: CAP * torch.tanh(logit / CAP),
        "bias": lambda logit, b, n, t, s: logit + added[t, s],
    }
    options: dict[str, Any] = {"score_mod": changes.get(case.kind), "enable_gqa": case.kind == "decode"}
    if case.kind not in ("full", "bias", "decode"):
        rule = rules.get(case.kind, lambda b, n, t, s: s <= t)
        options["block_mask"] = create_block_mask(rule, None, None, case.length, case.length, device=device)
    return functools.partial(torch.compile(flex_attention), **options)


def calls(attend: Attention, tensors: list[Tensor], cotangent: Tensor, gradient: bool) -> Call:
    """A forward pass without gradients, or a backward pass alone."""
    if not gradient:
        return torch.no_grad()(lambda: attend(*tensors))
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = attend(*leaves)
    return lambda: torch.autograd.grad(output, leaves, cotangent, retain_graph=True)


def measured(case: Case, gradient: bool, device: str, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each contender; one that cannot run says why."""
    ready: dict[str, Call] = {}
    refused: dict[str, str] = {}
    for name, attend, heads_first in contenders(case, device):
        given = [tensor.transpose(1, 2).contiguous() if heads_first else tensor for tensor in inputs(case, device)]
        try:
            ready[name] = calls(attend, given[:3], given[3], gradient)
            ready[name]()
        except (RuntimeError, NotImplementedError) as error:
            ready.pop(name, None)
            refused[name] = str(error).splitlines()[0]
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, call in ready.items():
            times[name].append(milliseconds(call, device, in_graph=case.kind == "decode"))
    row = {"case": case.name, "pass": "backward" if gradient else "forward"}
    for name, found in times.items():
        middle = statistics.median(found)
        yield {**row, "contender": name, "ms": middle, "from": min(found), "to": max(found), **rates(case, gradient, middle)}
    yield from ({**row, "contender": name, "refused": why} for name, why in refused.items())


def rates(case: Case, gradient: bool, middle: float) -> dict[str, float]:
    """Operations in a second; in decoding, where memory bounds it, bytes of keys and values."""
    if case.kind == "decode":
        moved = 2 * case.batch * case.length * case.key_heads * case.width * DTYPES[case.dtype].itemsize
        return {"GB/s": moved / middle / 1e6}
    operations = 4 * case.batch * case.heads * case.width * case.pairs * (2.5 if gradient else 1)
    return {"TFLOP/s": operations / middle / 1e9}


def milliseconds(call: Call, device: str, in_graph: bool = False) -> float:
    """On a GPU by its own clock; a call that is shorter than its launch takes is timed in a captured graph."""
    if device == "cpu":
        begun = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - begun)
    time_it = triton.testing.do_bench_cudagraph if in_graph else triton.testing.do_bench
    return float(time_it(call, return_mode="median"))


def ceilings(device: str, dtype: torch.dtype, size: int) -> Iterator[dict[str, Any]]:
    """What the chip can do: bytes read and written by a copy, operations of a product of square matrices."""
    source = torch.empty(size, size, dtype=dtype, device=device).normal_()
    copy = source.repeat(4, 1)
    target = torch.empty_like(copy)
    took = milliseconds(lambda: target.copy_(copy), device)
    yield {"case": "copy", "contender": "torch", "ms": took, "GB/s": 2 * copy.numel() * copy.itemsize / took / 1e6}
    took = milliseconds(lambda: source @ source, device)
    yield {"case": "matmul", "contender": "torch", "ms": took, "TFLOP/s": 2 * size**3 / took / 1e9}


# -- the run -----------------------------------------------------------------------------------------------------------


def arguments(given: list[str] | None) -> argparse.Namespace:
    """What is asked for; exits with 2 where it cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 4096, 16384])
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 128], help="head dims")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["bf16"], help="what is timed; all are checked")
    parser.add_argument("--tokens", type=int, default=16384, help="batch times length")
    parser.add_argument("--model", type=int, default=2048, help="heads times head dim")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(given)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch sees; `--device cpu` runs in Triton's interpreter")
    if options.device == "cpu" and not triton.knobs.runtime.interpret:
        parser.error("on a CPU kernels only run with TRITON_INTERPRET=1 in the environment")
    return options


def small_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Around the edges of blocks, for every kind, width and dtype that the device has."""
    has = DTYPES if options.device == "cuda" else ("fp16", "fp32")
    lengths = (1, 65, 129, 500) if options.device == "cuda" else (9,)
    for kind in KINDS:
        for length in lengths:
            if kind != "documents" or length > DOCUMENTS:
                yield from (Case(kind, length, width, dtype, 2, 4) for width in (16, 80, *options.widths) for dtype in has)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """What is timed."""
    for kind in KINDS:
        for dtype in options.dtypes:
            for width in options.widths:
                for length in options.lengths:
                    yield Case(kind, length, width, dtype, max(1, options.tokens // length), max(1, options.model // width))


def main(given: list[str] | None = None) -> int:
    """0, or 1 where a kernel is wrong."""
    options = arguments(given)

    def asked(case: Case) -> bool:
        return not options.names or any(case.name.startswith(name) for name in options.names)

    timed = list(filter(asked, cases(options)))
    kinds = {case.kind for case in timed}
    faults = [fault for case in small_cases(options) if case.kind in kinds for fault in wrong(case, options.device)]
    if not timed:
        print(f"no case begins with {' or '.join(options.names)}; kinds are {', '.join(KINDS)}")
        return 2
    if faults:
        print("\n".join(faults))
        return 1
    print("every kernel is right")
    rows = list(ceilings(options.device, DTYPES[options.dtypes[0]], 8192 if options.device == "cuda" else 64))
    for row in rows:
        print(_line(row))
    for case in timed:
        for gradient in (False,) if case.kind == "decode" else (False, True):
            for row in measured(case, gradient, options.device, options.rounds):
                rows.append(row)
                print(_line(row), flush=True)
    chip = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    found = {"chip": chip, "torch": torch.__version__, "triton": triton.__version__, "rounds": options.rounds, "rows": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _line(row: dict[str, Any]) -> str:
    rate = next((f"{row[unit]:8.1f} {unit}" for unit in ("TFLOP/s", "GB/s") if unit in row), "")
    took = f"{row['ms']:9.3f} ms" if "ms" in row else f"refused: {row['refused'][:60]}"
    return f"{row['case']:24} {row.get('pass', ''):9} {row['contender']:16} {took} {rate}"


if __name__ == "__main__":
    sys.exit(main())
