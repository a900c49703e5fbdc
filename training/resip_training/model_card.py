"""Model cards: the manifest in a reader's words."""

from __future__ import annotations

from typing import Any, Final

_CARD: Final = """\
# {task}: RGB diffusion policy

Predicts {prediction} absolute actions at {control_hz:g} Hz from one observation: the front and the wrist camera
({width}x{height}, rgb8) and the robot's state. {action} of them are executed before the next prediction.
Made by `resip export`; `manifest.json` holds the contract, the hashes and every setting.

## Use

    from resip.policy.artefact import load_policy

    policy = load_policy("models/{task}")
    actions = policy.chunk(state, front, wrist)   # ({prediction}, 10)

`policy.pt` is TorchScript and needs only torch. Cropping, normalisation and the {steps}-step DDIM loop are inside.
{files}
## Data

{data}

## Training

Behaviour cloning, {prediction_type} prediction, {updates} updates in {minutes:g} minutes on {threads} CPU thread(s),
seed {seed}{begun}; in the last {refinement:.0%} of the time the encoders rested and the denoiser alone learned.
On held-out demonstrations the executed actions are {position_error} off in position.

## Evaluation

{evaluation}

## Limits

Trained {seen}. It has not been run on a real
robot. Its outputs pass the limits of the nodes around it, and are no substitute for them.
"""

_ONE_SET: Final = """\
{n_demonstrations} demonstrations ({n_steps} steps at {control_hz:g} Hz) by the {source}, {randomness} randomness,
{where}; resets of seeds {seeds}.{copies}
Hash of the numbers: `{sha256}`."""
_SEVERAL_SETS: Final = """\
{n_demonstrations} demonstrations ({n_steps} steps at {control_hz:g} Hz) of {n_sets} data sets together:

| set | where | demonstrations | steps | by | randomness | seeds | hash of the numbers |
|---|---|---|---|---|---|---|---|
{rows}"""
_ROW: Final = "| {name} | {where} | {n_demonstrations} | {n_steps} | {source} | {randomness} | {seeds} | `{sha256}` |"
_PLACES: Final = {"sim": "in simulation", "recorded": "in the simulated cell", "real": "on the real cell"}

_MOST_RANGES: Final = 12  # that a reader still takes in
_NOT_EVALUATED: Final = "Not measured yet."


def render_card(manifest: dict[str, Any]) -> str:
    """Write the model card of a manifest, as Markdown."""
    data, training = manifest["data"], manifest["training"]
    result, settings, contract = training["result"], training["settings"], manifest["contract"]
    error = result.get("position_error_mm")
    return _CARD.format(
        task=manifest["task"],
        prediction=manifest["horizons"]["prediction"],
        action=manifest["horizons"]["action"],
        control_hz=contract["control_hz"],
        width=contract["image"]["width"],
        height=contract["image"]["height"],
        steps=manifest["sampler"]["steps"],
        files=_files(manifest.get("files", {})),  # older models had no choice
        data=_data(data, contract["control_hz"]),
        seen=_seen(_sets(data)),
        prediction_type=settings["policy"]["prediction_type"],
        updates=result.get("steps", 0),
        refinement=settings["refinement"],
        minutes=result.get("minutes", 0),
        threads=result.get("threads", 1),
        seed=settings["seed"],
        begun=_begun("weights", training.get("begun_with")) + _begun("encoders", training.get("encoder_weights")),
        position_error="an unknown distance" if error is None else f"{error:.1f} mm",
        evaluation=_evaluation(manifest["evaluation"]),
    )


def _begun(what: str, origin: dict[str, str] | None) -> str:
    """What the training began with, where that was not chance."""
    return "" if origin is None else f", begun with the {what} of {origin['name']} (`{origin['sha256'][:16]}`)"


def _sets(data: dict[str, Any]) -> list[dict[str, Any]]:
    """What is known of each data set; older models had one, of simulation."""
    return data.get("sets", [{**data, "domain": "sim"}])


def _data(data: dict[str, Any], control_hz: float) -> str:
    sets = [_described(one) for one in _sets(data)]
    if len(sets) == 1:
        return _ONE_SET.format(**sets[0], control_hz=control_hz)
    total = {name: data[name] for name in ("n_demonstrations", "n_steps")}
    rows = "\n".join(_ROW.format(**one) for one in sets)
    return _SEVERAL_SETS.format(**total, control_hz=control_hz, n_sets=len(sets), rows=rows)


def _described(one: dict[str, Any]) -> dict[str, Any]:
    """A data set in words."""
    provenance = one["provenance"]
    return {
        "name": one.get("name"),
        "where": ", ".join([where_shown(one), *_peculiarities(provenance)]),
        "n_demonstrations": one["n_demonstrations"],
        "n_steps": one["n_steps"],
        "source": provenance["source"],
        "randomness": provenance["randomness"],
        "seeds": ranges(one["seeds"]),
        "copies": _copies(provenance["simulator"]),
        "sha256": one["sha256"][:16],
    }


def where_shown(one: dict[str, Any]) -> str:
    """Where a set's demonstrations were shown: bags of the simulated cell are recordings, but not of a real one.

    Args:
      one: the set as ``Mixture.described`` has it: its domain and provenance.
    """
    robots = {bag["story"]["robot"] for bag in one["provenance"]["simulator"].get("bags", ())}
    return _PLACES["recorded" if robots == {"sim"} else one["domain"]]


def _peculiarities(provenance: dict[str, Any]) -> list[str]:
    """What is not as usual in a set."""
    disturbed_m = (provenance.get("rollout") or {}).get("disturbed_m")
    stride = (provenance.get("rendered") or {}).get("stride", 1)
    return [
        *(["randomised images"] if _is_randomised(provenance) else []),
        *([f"pushed off its way by {1000 * disturbed_m:g} mm"] if disturbed_m else []),
        *([f"one step in {stride} with images"] if stride > 1 else []),
    ]


def _is_randomised(provenance: dict[str, Any]) -> bool:
    """Whether lights, colours, textures and cameras of a set were drawn."""
    rendered = provenance.get("rendered")
    return rendered is not None and rendered["every"] != "never"


def _seen(sets: list[dict[str, Any]]) -> str:
    """What a policy has met."""
    where = " and ".join(sorted({where_shown(one) for one in sets}, key=list(_PLACES.values()).index))
    levels = " and ".join(dict.fromkeys(one["provenance"]["randomness"] for one in sets))
    looks = (
        "on randomised views"
        if any(_is_randomised(one["provenance"]) for one in sets)
        else "on one camera pose, one light"
    )
    return f"{where} {looks} and {levels} randomness only"


def _files(files: dict[str, dict[str, Any]]) -> str:
    if not files:
        return ""
    rows = [
        f"| `{name}` | {file['form']} | {file['weights']} | {file['bytes'] / 1e6:.1f} MB "
        f"| {1e3 * file['difference']['position_m']:.2g} mm |"
        for name, file in files.items()
    ]
    heading = "| file | form | weights | size | difference in position |"
    return "\n" + "\n".join([heading, "|---|---|---|---|---|", *rows]) + "\n"


def _copies(simulator: dict[str, Any]) -> str:
    copies = simulator.get("displaced_copies", {"number": 0})
    if not copies["number"]:
        return ""
    return (
        f"\nDisplaced copies of each, rendered again with arm, parts and obstacle moved together by up to"
        f" {100 * copies['within_m']:g} cm: {copies['number']}.\n"
    )


def _evaluation(evaluation: dict[str, Any] | None) -> str:
    if evaluation is None:
        return _NOT_EVALUATED
    success = evaluation["success"]
    low, high = success["interval"]
    lines = [
        f"**{success['k']} of {success['n']} trials succeeded: {success['rate']:.0%} "
        f"(95 % interval {low:.0%} to {high:.0%})**, seeds {ranges(success['seeds'])}.",
        "",
        *(f"- {name}: {value}" for name, value in evaluation["settings"].items()),
    ]
    return "\n".join(lines)


def ranges(numbers: list[int]) -> str:
    """Write integers compactly: ``1-4, 9``; scattered ones, which manifests list, ``645 of 2000001-2000899``."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    if len(groups) > _MOST_RANGES:
        return f"{len(numbers)} of {groups[0][0]}-{groups[-1][-1]}"
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)
