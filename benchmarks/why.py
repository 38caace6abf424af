"""Do the papers' explanations hold on Tinyworld? One page of the documentation each, over at least five seeds.

    python benchmarks/why.py PAGE [--seeds 1 2 3 4 5] [--out runs/why]

bias      Do prompts act as a bias of the data set?  (arXiv:2312.11570)
density   Is a prompt's information density tied to the accuracy on new classes?  (arXiv:2312.10813)
channels  Are the channels of DPC's two prompts alike, beyond what controls give?  (arXiv:2503.13443)
object    Does DAPT look at the object?  (arXiv:2508.00395)
cause     Does PRM find the one cause?  (arXiv:2506.01000)

A claim is a number of each seed that should be above a bound. It holds if Student's 95 % interval over the seeds lies
above the bound, does not hold if it lies below, and is undecided if the bound is within. What is trained and found is
kept under --out, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from claims import Claim, Learned, findings, show, show_claims, spread, train

Found = Sequence[Mapping[str, Any]]
MODES = {
    "full": "all",
    "rescale_only": "re-scaling",
    "bias_only": "bias",
    "mean_bias_only": "one mean bias",
    "none": "none",
}
QUERIES = {"text": ("eot", "word"), "image": ("cls", "patch")}
CHANNELS = ("spearman", "pearson", "jaccard", "cosine", "drift")
CAUSES = ("shape", "colour", "texture", "background")
# Learners of text alone take their image features from eight augmented views per image instead of new ones each epoch.
TEXT_ALONE: dict[str, Any] = {"training": {"views": 8, "log_prompts": True}}
EPOCHS = 50


def coop(suite: str) -> Learned:
    return Learned("coop", "coop", suite, {"epochs": EPOCHS}, **TEXT_ALONE)


def rlp(suite: str) -> Learned:
    # The rate is that of docs/prompt-experiments.md: a product of rank 1 hardly moves at CoOp's.
    options = {"epochs": EPOCHS, "rlp_lr_scale": 16.0, "rlp_dropout": 0.0}
    return Learned("coop+rlp", "coop+rlp", suite, options, **TEXT_ALONE)


def bias(seeds: Sequence[int], out: Path) -> None:
    host = Learned("ivlp", "ivlp", "garden", {"epochs": 10})
    found = findings(host, "rescaling-or-bias", seeds, out)
    rows: list[Sequence[object]] = [("changed in", *(f"{name} (%)" for name in MODES.values()))]
    claims = []
    for where in found[0]["ablations"]["accuracy"]:
        models = [one["ablations"]["accuracy"][where] for one in found]
        rows.append((where, *(spread([model[mode] for model in models]) for mode in MODES)))
        for mode in ("mean_bias_only", "bias_only", "rescale_only"):
            over = [m[mode] - (m["full"] + m["none"]) / 2 for m in models]
            claims.append(Claim(f"{where}: {MODES[mode]} keeps more than half of the gain (points)", over, digits=1))
    show(*rows)
    show_claims(*claims)
    show(("tower, query", "λ", "input dependence of β"), *(_decomposed(found, tower) for tower in found[0]["parts"]))


def _decomposed(found: Found, tower: str) -> Sequence[str]:
    """λ and the input dependence of β for the token that is read out, means over blocks and heads."""
    means = (
        [float(torch.tensor(one["parts"][tower][name])[..., 0].mean()) for one in found]
        for name in ("scale", "dependence")
    )
    return (f"{tower}, {QUERIES[tower][0]}", *(spread(values, 2) for values in means))


def density(seeds: Sequence[int], out: Path) -> None:
    head = ("suite", "method", "density (%)", "accuracy on new (%)", "ρ with base")
    rows: list[Sequence[object]] = [head]
    claims = []
    for suite in ("garden", "aquarium"):
        for host in (coop(suite), rlp(suite)):
            found = findings(host, "rank", seeds, out)
            held = [[100 * statistics.fmean(p["density"] for p in of) for of in one["spectra"]["P"]] for one in found]
            new = [one["accuracy"]["new"] for one in found]
            rho = {name: _correlations(found, name) for name in ("new", "base")}
            rows.append((suite, host.label, _ends(held), _ends(new), spread(rho["base"], 2)))
            where = f"{suite}, {host.label}, {len(rho['new'])} of {len(seeds)} seeds"
            for bound, text in ((0.0, "tied to new classes, ρ above 0"), (0.9, "as tightly as printed, ρ above 0.9")):
                claims.append(Claim(f"{where}: {text}", rho["new"], bound))
    show(*rows)
    show_claims(*claims)


def _correlations(found: Found, name: str) -> list[float]:
    """Spearman's ρ over epochs of the density of P with the accuracy; without seeds in which that never changed."""
    every = [one["correlations"]["P"]["density"][name]["rho"] for one in found]
    return [rho for rho in every if rho is not None]


def _ends(of_seeds: Sequence[Sequence[float]]) -> str:
    """Means over seeds before the first and after the last epoch."""
    return " → ".join(f"{statistics.fmean(row[i] for row in of_seeds):.1f}" for i in (0, -1))


def channels(seeds: Sequence[int], out: Path) -> None:
    host = coop("aquarium")
    options = {**host.options, "dpc_epochs": 10}
    dual = Learned("coop+dpc", "coop+dpc", host.suite, options, training=host.training, continues=host)
    for seed in seeds:  # all first, since the prompt of another seed is a control
        train(dual, seed, out)
    found = findings(dual, "dpc", seeds, out)
    of = lambda pair, measure: [statistics.fmean(one["channels"]["pairs"][pair][measure]) for one in found]
    pairs = found[0]["channels"]["pairs"]
    show(
        ("beside the tuned prompt", *CHANNELS),
        *((pair, *(spread(of(pair, measure), 3) for measure in CHANNELS)) for pair in pairs),
    )
    beyond = lambda pair: [a - b for a, b in zip(of("parallel", "spearman"), of(pair, "spearman"), strict=True)]
    show_claims(
        *(Claim(f"Spearman's ρ above that of {pair}", beyond(pair), digits=3) for pair in pairs if pair != "parallel")
    )
    bent = [1 - min(one["linearity"]["text"]) for one in found]
    print(f"\nLargest 1 − cosine of the text encoder to the straight line: {statistics.fmean(bent):.1e}")


def looks_at_object(seeds: Sequence[int], out: Path) -> None:
    host = Learned("maple", "maple", "garden", {"epochs": 10})
    dapt = Learned("maple+dapt", "maple+dapt", "garden", {"epochs": 10, "dapt_source": "exact"})
    before, after = (findings(one, "foreground", seeds, out) for one in (host, dapt))
    maps = tuple(before[0]["looks"])
    on = lambda found, name, who, what="on_foreground": [one["looks"][name][who]["all"][what] for one in found]
    percent = lambda values: [100 * value for value in values]
    told = lambda found, who: (
        f"{spread(percent(on(found, name, who)))}, {statistics.fmean(on(found, name, who, 'lift')):.2f}"
        for name in maps
    )
    show(
        ("method", "accuracy (%)", *(f"{name}: on the object (%), times chance" for name in maps)),
        ("frozen CLIP", "–", *told(before, "before")),
        *(
            (one.label, spread([f["accuracy"] for f in of]), *told(of, "after"))
            for one, of in ((host, before), (dapt, after))
        ),
    )
    more = lambda name: [
        100 * (b - a) for a, b in zip(on(before, name, "after"), on(after, name, "after"), strict=True)
    ]
    above = lambda name: [lift - 1 for lift in on(after, name, "after", "lift")]
    show_claims(
        *(
            Claim(f"{name} lies more on the object with DAPT than without (points)", more(name), digits=1)
            for name in maps
        ),
        *(Claim(f"{name} of DAPT lies on the object more than by chance (times − 1)", above(name)) for name in maps),
    )


def cause(seeds: Sequence[int], out: Path) -> None:
    rows: list[Sequence[object]] = [("suite", "even (%)", *(f"{name} (%)" for name in CAUSES), "classes it leads (%)")]
    risks: list[Sequence[object]] = [("suite", "best weights (nats)", "even", "votes", "heaviest", "best single")]
    claims = []
    for true in CAUSES[:3]:
        settings = {"epochs": 3, "batch_size": 16, "lr": 10.0}
        one = Learned("dvp_cse", "dvp_cse", f"one_cause_{true}", settings, halves=False)
        found = findings(one, "weights", seeds, out)
        share = {name: [_share(of["read"], "mass", name) for of in found] for name in CAUSES}
        even = _share(found[0]["read"], "prior", true)
        leads = [_leads(of["read"], true) for of in found]
        rows.append((one.suite, f"{even:.1f}", *(spread(share[name]) for name in CAUSES), spread(leads)))
        others = [max(of) for of in zip(*(share[name] for name in CAUSES if name != true), strict=True)]
        most = [mine - other for mine, other in zip(share[true], others, strict=True)]
        claims += [
            Claim(f"{true} gains weight (points)", [mine - even for mine in share[true]], digits=1),
            Claim(f"{true} weighs more than any other (points)", most, digits=1),
            Claim(
                f"{true} leads more classes than by chance (points)", [of - 100 / len(CAUSES) for of in leads], digits=1
            ),
        ]
        risk = [of["risk"] for of in found]
        fixed = (spread([of["fixed"][name] for of in risk], 3) for name in risks[0][2:])
        risks.append((one.suite, spread([of["best"] for of in risk], 3), *fixed))
    show(*rows)
    show_claims(*claims)
    show(*risks)


def _share(read: Mapping[str, Any], what: str, cause: str) -> float:
    """Of a cause in the weight ("mass"), or before any vote ("prior"); mean over classes, in %."""
    return 100 * float(torch.tensor(read[what])[:, read["groups"].index(cause)].mean())


def _leads(read: Mapping[str, Any], true: str) -> float:
    """Share in % of the classes in which the true cause gained most over its even share."""
    gained = torch.tensor(read["mass"]) - torch.tensor(read["prior"])
    return 100 * float((gained.argmax(dim=1) == read["groups"].index(true)).double().mean())


PAGES: dict[str, Callable[[Sequence[int], Path], None]] = {
    "bias": bias,
    "density": density,
    "channels": channels,
    "object": looks_at_object,
    "cause": cause,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=PAGES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, default=Path("runs/why"))
    given = parser.parse_args()
    if len(given.seeds) < 2:
        parser.error("an interval over seeds needs at least two of them, better five.")
    torch.set_num_threads(1)
    PAGES[given.page](given.seeds, given.out)


if __name__ == "__main__":
    main()
