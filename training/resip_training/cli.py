"""Commands that the training side adds to `resip`: their options; what they do is imported when they run."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from resip import cli
from resip.cli import AtLeast, Count
from resip.errors import ResipError
from resip.policy.synchroniser import MAX_AGE_S, MAX_SKEW_S
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, subcommand

from resip_training.algorithms import settings

Randomness = Literal["low", "med", "high"]
Natural = Annotated[int, AtLeast(0)]
_COMPACT_RESIDUAL_PPO: Final = settings.ResidualPPOConfig()
_RESIDUAL_OFF_POLICY: Final = settings.ResidualOffPolicyConfig()
PPOPreset = (
    Annotated[settings.ResidualPPOConfig, subcommand("compact", default=_COMPACT_RESIDUAL_PPO)]
    | Annotated[settings.ResidualPPOConfig, subcommand("paper", default=settings.PAPER_RESIDUAL_PPO)]
)
_COMPACT_CHUNK_PPO: Final = settings.ChunkPPOConfig()
ChunkPPOPreset = (
    Annotated[settings.ChunkPPOConfig, subcommand("compact", default=_COMPACT_CHUNK_PPO)]
    | Annotated[settings.ChunkPPOConfig, subcommand("paper", default=settings.PAPER_CHUNK_PPO)]
)
_COMPACT_IDQL: Final = settings.IDQLConfig()
IDQLPreset = (
    Annotated[settings.IDQLConfig, subcommand("compact", default=_COMPACT_IDQL)]
    | Annotated[settings.IDQLConfig, subcommand("paper", default=settings.PAPER_IDQL)]
)


@dataclass(frozen=True)
class Expert:
    """Measure how often the scripted experts succeed in simulation."""

    task: Positional[str]
    """Name of the task, such as one_leg, or all."""
    episodes: Count = 50
    """Episodes to run at each level, on as many seeds."""
    seed: Natural = 0
    """First seed; the others follow it."""
    randomness: tuple[Randomness, ...] = ("low",)
    """How far parts, obstacle and arm start from their nominal places: one level or several."""
    threads: Natural = 0
    """Threads that step the simulations; 0 takes all cores."""
    device: str = "cpu"
    """Where the physics runs: cpu, cuda for a GPU, or a worker at unix:/path or tcp:HOST:PORT (docs/isaac.md)."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Run the episodes and print each success with its interval."""
        from resip_training.experts.run import evaluate_experts

        seeds = range(self.seed, self.seed + self.episodes)
        evaluate_experts(self.task, seeds, self.randomness, self.threads, self.json, self.device)


@dataclass(frozen=True)
class Starts:
    """Measure and plot how far parts start from their nominal places, per level of randomness."""

    task: Positional[str]
    """Name of the task, such as one_leg."""
    out: Path = Path("docs/images")
    """Folder of the plot, starts_TASK.png."""
    episodes: Count = 512
    """Starts to draw at each level."""
    seed: Natural = 0
    """First seed; the others follow it."""
    threads: Natural = 0
    """Threads that step the simulations; 0 takes all cores."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Draw the starts, print the quantiles and save the plot."""
        from resip_training.sim.starts import measure_starts

        _write_json(measure_starts(self.task, self.out, self.episodes, self.seed, self.threads), self.json)


@dataclass(frozen=True)
class Collect:
    """Record demonstrations into a data set, of the scripted expert or by hand; it can be interrupted."""

    task: Positional[str]
    """Name of the task, such as one_leg."""
    out: Path
    """Folder of the data set; one that has some demonstrations is completed."""
    demos: Count = 50
    """Successful episodes to have in the end."""
    seed: Natural = 0
    """First seed; the others follow it."""
    randomness: Randomness = "low"
    """How far parts, obstacle and arm start from their nominal places."""
    threads: Natural = 0
    """Threads that step the simulations; 0 takes all cores."""
    copies: Natural = 0
    """Copies of each, displaced on the table, that are stored beside it."""
    images: bool = True
    """Render both cameras; without them a set has states only, and takes seconds."""
    source: Literal["expert", "keyboard", "spacemouse"] = "expert"
    """Who demonstrates: the expert, or you in MuJoCo's viewer (docs/teleop.md); without copies and threads then."""
    profile: str = ""
    """How fast you move; empty takes the source's own."""

    def run(self) -> None:
        """Record until the data set is complete."""
        if self.source != "expert":
            from resip_training.data.operate import operate_in_viewer

            operate_in_viewer(
                self.task, self.demos, self.seed, self.randomness, self.out, self.source, self.profile, self.images
            )
            return
        from resip_training.data.collect import collect

        collect(self.task, self.demos, self.seed, self.randomness, self.out, self.threads, self.copies, self.images)


@dataclass(frozen=True)
class DataInfo:
    """Print what a demonstration set holds: where it is from, lengths, ranges; and plot its coverage."""

    dataset: Positional[Path]
    """Folder of the set."""
    out: Path | None = None
    """The plot, such as coverage.png."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Print, plot and write."""
        from resip_training.data.info import data_info

        data_info(self.dataset, self.out, self.json)


@dataclass(frozen=True)
class DataCoverage:
    """Measure how much of what a real set does a simulated one does as well; `figure coverage` draws it."""

    sim: Positional[Path]
    """Folder of the simulated set."""
    real: Positional[Path]
    """Folder of the real set."""
    json: Path
    """File for the figures, and for the positions that are drawn."""

    def run(self) -> None:
        """Measure, print and write."""
        from resip_training.data.coverage import measure_coverage

        measure_coverage(self.sim, self.real, self.json)


@dataclass(frozen=True)
class DataImport:
    """Convert the paper authors' published demonstrations into a data set; it can be interrupted."""

    sources: Positional[tuple[Path, ...]]
    """Their .zarr folders, of one task and level."""
    out: Path
    """Folder of the data set; one that has some episodes is completed."""
    images: bool = True
    """Copy the images."""

    def run(self) -> None:
        """Convert and write."""
        from resip_training.data.authors import import_demos

        import_demos(self.sources, self.out, self.images)


@dataclass(frozen=True)
class DataSalvage:
    """Copy the whole episodes of a damaged demonstration set into a new one; it can be interrupted."""

    dataset: Positional[Path]
    """Folder of the damaged set, which is left as it is."""
    out: Path
    """Folder of the new set."""

    def run(self) -> None:
        """Copy, and tell what is lost."""
        from resip_training.data.salvage import salvage

        salvage(self.dataset, self.out)


@dataclass(frozen=True, kw_only=True)
class _FromBags:
    """Options of what is made from bags."""

    out: Path
    """Folder of the result."""
    keep_failures: bool = False
    """Take what did not succeed as well."""
    max_skew_s: Annotated[float, AtLeast(0)] = MAX_SKEW_S
    """Largest distance in time of wrist image and robot state from the front image; by default the policy node's."""
    max_observation_age_s: Annotated[float, AtLeast(0)] = MAX_AGE_S
    """Largest age of the front image when a target was executed; by default the policy node's."""


@dataclass(frozen=True)
class BagToDataset(_FromBags):
    """Turn bags of trials or teleoperation into a demonstration set for `train distill --real`; resumable."""

    bags: Positional[tuple[Path, ...]]
    """Bags, or folders of them, such as `resip trial` wrote."""

    def run(self) -> None:
        """Resample and write; tell what was left out."""
        from resip.recording.resampling import Matching

        from resip_training.data.bags import bags_to_dataset

        matching = Matching(self.max_skew_s, self.max_observation_age_s)
        bags_to_dataset(self.bags, self.out, matching, self.keep_failures)


@dataclass(frozen=True)
class BagToLerobot(_FromBags):
    """Write bags or demonstration sets as a LeRobotDataset v3.0."""

    sources: Positional[tuple[Path, ...]]
    """Bags, folders of them, or demonstration sets with images."""

    def run(self) -> None:
        """Resample, encode and write."""
        from resip.recording.resampling import Matching

        from resip_training.data.lerobot import to_lerobot

        matching = Matching(self.max_skew_s, self.max_observation_age_s)
        to_lerobot(self.sources, self.out, matching, self.keep_failures)


@dataclass(frozen=True)
class Rollout:
    """Record the episodes in which a policy on states succeeds, into a data set; it can be interrupted."""

    checkpoint: Positional[Path]
    """Folder of a training run, or of a shipped teacher."""
    out: Path
    """Folder of the data set; one that has some of the episodes is completed."""
    episodes: Count = 50
    """Episodes to run, on as many seeds."""
    seed: Natural = 2_000_000
    """First seed; the others follow it. Nothing is evaluated on these seeds by default."""
    randomness: Randomness | None = None
    """How far parts, obstacle and arm start from their nominal places; by default as the policy was trained."""
    threads: Count = 1
    """Threads of torch and of the simulations."""
    worlds: Count = 64
    """Episodes that run side by side."""
    shard: str | None = None
    """I/N takes every N-th seed from the I-th on into a folder of its own in OUT; all N are read as one set."""
    keep_failures: bool = False
    """Keep the episodes that fail as well, marked as such."""
    disturb_m: Annotated[float, AtLeast(0)] = 0.0
    """Mean size of pushes off the policy's way (m), 0.003 for instance: a student then sees how errors are mended."""
    device: str = "cpu"
    """Where physics and policy run: cpu or cuda."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Run the episodes and print the success with its interval."""
        from resip_training.rollout.record import rollout
        from resip_training.shards import Shard

        rollout(
            self.checkpoint,
            self.out,
            range(self.seed, self.seed + self.episodes),
            self.randomness,
            self.threads,
            self.worlds,
            Shard.asked_for(self.shard),
            self.keep_failures,
            self.disturb_m,
            self.device,
            self.json,
        )


@dataclass(frozen=True)
class Render:
    """Render a data set's images under visual randomisation, into a new set; it can be interrupted."""

    dataset: Positional[Path]
    """Episodes that `resip collect` or `resip rollout` recorded."""
    out: Path
    """Folder of the new set; one that has some of it is completed."""
    seed: Natural = 0
    """Of lights, colours, textures and cameras."""
    copies: Count = 1
    """Times that each episode is rendered."""
    every: Literal["frame", "episode", "never"] = "frame"
    """How long lights, colours, textures and cameras stay as they are; never: nothing is randomised."""
    stride: Count = 1
    """Steps from one that is rendered to the next: of a third of them (3), policies learn from three times the layouts
    for as much rendering."""
    shard: str | None = None
    """I/N renders the I-th of N parts into a folder of its own in OUT; all N together are read as one set."""

    def run(self) -> None:
        """Render until the set, or the shard, is complete."""
        from resip_training.render.dataset import render_dataset
        from resip_training.shards import Shard

        shard = Shard.asked_for(self.shard)
        render_dataset(self.dataset, self.out, self.seed, self.copies, self.every, self.stride, shard)


@dataclass(frozen=True)
class Sheet:
    """Write contact sheets: of tasks, an expert's episode nominal and randomised; or of a data set's images."""

    tasks: Positional[tuple[str, ...]] = ()
    """Names of tasks, such as one_leg; by default all."""
    out: Path = Path("docs/images")
    """Folder of the pictures, sheet_TASK.png."""
    seed: Natural = 0
    """Of the starts and of the randomisation."""
    dataset: Path | None = None
    """Show this set's images instead: episodes and moments, front and wrist."""

    def run(self) -> None:
        """Write the pictures."""
        from resip_training.render.sheet import write_dataset_sheet, write_sheets

        if self.dataset is None:
            write_sheets(self.tasks, self.out, self.seed)
        else:
            write_dataset_sheet(self.dataset, self.out)


@dataclass(frozen=True)
class Usd:
    """Write the episodes of a data set as USD stages, for Isaac Sim; it can be interrupted."""

    dataset: Positional[Path]
    """Folder of the set."""
    out: Path
    """Folder of the stages, one for each episode, and of the cell that they share."""

    def run(self) -> None:
        """Write what is not there yet."""
        from resip_training.render.usd import write_usd

        write_usd(self.dataset, self.out)


@dataclass(frozen=True)
class Play:
    """Run one episode of an agent in simulation, as a video or in MuJoCo's viewer."""

    task: Positional[str]
    """Name of the task, such as one_leg."""
    agent: str = "expert"
    """expert, random, zero (stay there), or the folder of a training run or of an exported model."""
    seed: Natural = 0
    """Of the episode and of the agent."""
    randomness: Randomness = "low"
    """How far parts, obstacle and arm start from their nominal places."""
    camera: tuple[str, ...] = ("front", "wrist", "overview")
    """Cameras in the video, side by side."""
    visual_seed: int | None = None
    """Randomise lights, colours, textures and cameras, from this seed."""
    out: Path | None = None
    """The video; by default TASK_AGENT_SEED.mp4 here, unless in the viewer."""
    viewer: bool = False
    """Open MuJoCo's viewer."""
    show_residual: bool = False
    """Draw what a policy on states wants: its base in red, the residual in blue, both together in green."""
    still: Natural | None = None
    """Write the picture after so many control steps as well, as a PNG beside the video."""

    def run(self) -> None:
        """Run the episode and tell how it ended."""
        from resip_training.play import play

        out = self.out
        if out is None and not self.viewer:
            out = Path(f"{self.task}_{Path(self.agent).name}_{self.seed}.mp4")
        play(
            self.task,
            self.agent,
            self.seed,
            self.randomness,
            self.camera,
            out,
            self.visual_seed,
            self.viewer,
            self.show_residual,
            self.still,
        )


@dataclass(frozen=True)
class TrainBC:
    """Clone demonstrations into a base policy on states; the same command resumes an interrupted run."""

    dataset: Positional[Path]
    """Demonstrations that `resip collect` recorded."""
    out: Path
    """Folder of the run."""
    policy: Literal["mlp-s", "mlp-c", "dp", "act"] = "dp"
    """A single action, a chunk, a diffused chunk, or a transformer's chunk."""
    preset: Literal["compact", "paper"] = "compact"
    """Sized for two cores, or the paper's Tables 3 to 5."""
    action_horizon: Count | None = None
    """Actions of a chunk that are executed before the next is asked for; by default 8, of mlp-s 1."""
    steps: int | None = None
    """Updates; by default as many as the preset says."""
    seed: Natural = 0
    """Of everything random."""
    threads: Count = 1
    """Threads that torch computes with."""
    device: str = "cpu"
    """Where the policy learns: cpu or cuda."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Train, or go on training."""
        from resip_training.algorithms.state_bc import preset
        from resip_training.runs import Budget
        from resip_training.train import train_bc

        config, updates = preset(self.policy, self.preset, self.seed, self.action_horizon)
        budget = Budget(steps=self.steps or updates)
        figures = train_bc(
            self.dataset, self.out, budget=budget, threads=self.threads, device=self.device, config=config
        )
        _write_json(figures, self.json)


@dataclass(frozen=True)
class TrainOnline:
    """Options of all algorithms that improve on a base policy in simulated worlds."""

    base: Positional[Path]
    """Run of `train bc`, or a shipped teacher."""
    out: Path
    """Folder of the run."""
    dataset: Path | None = None
    """Demonstrations whose states training episodes may begin at."""
    steps: Count = 3_000_000
    """Control steps of all worlds together."""
    seed: Natural = 0
    """Of everything random."""
    threads: Count = 1
    """Threads of torch and of the simulation."""
    device: str = "cpu"
    """Where both run: cpu or cuda."""
    json: Path | None = None
    """Write the figures here as well."""

    def _train(self, config: settings.OnlineConfig) -> None:
        from resip_training.runs import Budget
        from resip_training.train_online import train_online

        figures = train_online(
            self.base,
            self.out,
            replace(config, seed=self.seed),
            dataset=self.dataset,
            budget=Budget(steps=self.steps),
            threads=self.threads,
            device=self.device,
        )
        _write_json(figures, self.json)


@dataclass(frozen=True)
class TrainResidualPPO(TrainOnline):
    """Learn a residual on a frozen base policy with PPO; the same command resumes an interrupted run."""

    settings: OmitSubcommandPrefixes[OmitArgPrefixes[PPOPreset]] = _COMPACT_RESIDUAL_PPO
    """Sized for two cores, or the paper's Tables 6 and 9; each option can be changed after the preset's name."""

    def run(self) -> None:
        """Train, or go on training."""
        self._train(self.settings)


@dataclass(frozen=True)
class TrainResidualOffPolicy(TrainOnline):
    """Learn a residual on a frozen base policy off-policy; the same command resumes an interrupted run."""

    dataset: Path | None = None
    """Demonstrations to learn from, and at whose states training episodes may begin."""
    steps: Count = 500_000
    """Control steps of all worlds together."""
    settings: OmitArgPrefixes[settings.ResidualOffPolicyConfig] = _RESIDUAL_OFF_POLICY
    """Sized for two cores."""

    def run(self) -> None:
        """Train, or go on training."""
        self._train(self.settings)


@dataclass(frozen=True)
class TrainChunkPPO(TrainOnline):
    """Fine-tune an MLP's chunks with PPO, close to the cloned ones; the same command resumes an interrupted run."""

    settings: OmitSubcommandPrefixes[OmitArgPrefixes[ChunkPPOPreset]] = _COMPACT_CHUNK_PPO
    """Sized for two cores, or the paper's Tables 6 and 7; each option can be changed after the preset's name."""

    def run(self) -> None:
        """Train, or go on training."""
        self._train(self.settings)


@dataclass(frozen=True)
class TrainIDQL(TrainOnline):
    """Learn which of a diffusion policy's chunks is worth most; the same command resumes an interrupted run."""

    settings: OmitSubcommandPrefixes[OmitArgPrefixes[IDQLPreset]] = _COMPACT_IDQL
    """Sized for two cores, or the paper's Tables 6 and 8; each option can be changed after the preset's name."""

    def run(self) -> None:
        """Train, or go on training."""
        self._train(self.settings)


@dataclass(frozen=True)
class TrainDistill:
    """Clone rendered and real demonstrations into a policy on images; the same command resumes an interrupted run."""

    out: Path
    """Folder of the run."""
    sim: tuple[Path, ...] = ()
    """Data sets with simulated images, one or several."""
    real: tuple[Path, ...] = ()
    """Data sets of the real cell."""
    preset: Literal["compact", "paper"] = "compact"
    """Sized for two cores, or the paper's Tables 10 to 12."""
    denoiser: Literal["mlp", "unet", "transformer"] | None = None
    """Instead of the preset's: mlp (compact), transformer (paper)."""
    norm: Literal["batch", "group"] = "batch"
    """Of the paper preset's ResNets."""
    wrist_view: Literal["whole", "centre"] | None = None
    """Of the compact preset: the whole wrist image at half resolution, or its centre at full, for small parts."""
    shift_px: Natural | None = None
    """How far the compact preset's training images are shifted, by default 1; 0 where the cameras never move."""
    action_horizon: Count | None = None
    """Actions of a chunk that are executed before the next is asked for; by default 8."""
    encoder_weights: Path | None = None
    """What the encoders begin with: ImageNet's or R3M's weights for ResNet-18 (a .safetensors or torch file), or the
    run or model folder, also of another task, whose encoders are taken."""
    freeze_encoder: bool = False
    """Leave the ResNets as they are."""
    begin_with: Path | None = None
    """A run, or a model folder such as models/one_leg, whose policy is trained on; the network is then its own."""
    real_share: float | None = None
    """Share of real observations in the batches; by default every observation is drawn as often."""
    real_weight: Annotated[float, AtLeast(0)] = 1.0
    """Of a real observation in the loss, where a simulated one has 1."""
    memory_gb: Annotated[float, AtLeast(0)] = 8.0
    """That images may take; those of larger data sets are read while training goes on."""
    minutes: float = 45.0
    """Length of the training; ignored where steps are given, by the option or by the preset."""
    steps: int | None = None
    """Updates; the result then follows from the seed."""
    seed: Natural = 0
    """Of everything random."""
    threads: Count = 2
    """Threads that torch computes with."""
    device: str = "cpu"
    """Where the policy learns: cpu or cuda."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Train, or go on training."""
        from resip_training.algorithms.bc import preset
        from resip_training.runs import Budget
        from resip_training.train import train_images

        if self.begin_with is not None and (self.denoiser, self.wrist_view) != (None, None):
            raise ResipError(f"{self.begin_with} has a network: --denoiser and --wrist-view are for a new one")
        config, updates = preset(self.preset, self.denoiser, self.norm, self.wrist_view, self.shift_px)
        config = replace(
            config,
            freeze_encoder=self.freeze_encoder,
            real_share=self.real_share,
            real_weight=self.real_weight,
            memory_gb=self.memory_gb,
            seed=self.seed,
        )
        figures = train_images(
            self.sim,
            self.out,
            real=self.real,
            budget=Budget(minutes=self.minutes, steps=self.steps or updates),
            threads=self.threads,
            device=self.device,
            config=config,
            encoder_weights=self.encoder_weights,
            begin_with=self.begin_with,
            action_horizon=self.action_horizon,
        )
        _write_json(figures, self.json)


@dataclass(frozen=True)
class Evaluate:
    """Measure how often a policy succeeds in simulation, without the ROS graph."""

    checkpoint: Positional[Path]
    """Folder of a training run or of an exported model."""
    episodes: Count = 50
    """Episodes to run, on as many seeds."""
    seed: Natural = 0
    """First seed; the others follow it."""
    randomness: Randomness | None = None
    """How far parts, obstacle and arm start from their nominal places; by default as the policy was trained."""
    threads: Count = 2
    """Threads of torch and of the simulations."""
    device: str = "cpu"
    """Where the physics and a policy on states run: cpu or cuda."""
    random_looks: bool = False
    """Lights, colours, textures and cameras drawn anew for each episode; for policies on images."""
    json: Path | None = None
    """Write the figures here as well; those of a training run in the plain cell are also kept in its folder."""

    def run(self) -> None:
        """Run the episodes and print the success with its interval."""
        from resip_training.evaluate import evaluate

        evaluate(
            self.checkpoint,
            self.episodes,
            self.seed,
            self.randomness,
            self.threads,
            self.device,
            self.json,
            self.random_looks,
        )


@dataclass(frozen=True)
class Report(cli.Report):
    """Write the HTML report of trials or of training runs; several are compared."""

    directory: Positional[Path]
    """Folder that `resip trial` wrote, or of a training run."""

    def run(self) -> None:
        """Write the page and tell where it is."""
        from resip_training.report.page import holds_runs, report

        folders = (self.directory, *self.others)
        if holds_runs(folders):
            report(folders, self.out)
        else:
            super().run()


@dataclass(frozen=True)
class FigureTeacher:
    """Draw the success of students of a teacher's rollouts and of demonstrations, and of the teacher."""

    evaluations: Positional[tuple[Path, ...]]
    """Files of `resip evaluate --json`, in the order of the bars."""
    out: Path
    """The picture, such as study.png."""

    def run(self) -> None:
        """Draw and write."""
        from resip_training.report.studies import draw_teacher

        draw_teacher(self.evaluations, self.out)


@dataclass(frozen=True)
class FigureScaling:
    """Draw the success of students over the number of rollouts that they were cloned from."""

    evaluations: Positional[tuple[Path, ...]]
    """Files of `resip evaluate --json`: of students on states, and of their teacher."""
    out: Path
    """The picture, such as study.png."""

    def run(self) -> None:
        """Draw and write."""
        from resip_training.report.studies import draw_scaling

        draw_scaling(self.evaluations, self.out)


@dataclass(frozen=True)
class FigureCoverage:
    """Draw where the actions and states of a simulated and of a real set are."""

    figures: Positional[Path]
    """File of `resip data coverage`."""
    out: Path
    """The picture, such as study.png."""

    def run(self) -> None:
        """Draw and write."""
        from resip_training.report.studies import draw_coverage

        draw_coverage(self.figures, self.out)


@dataclass(frozen=True)
class Export:
    """Ship a run's policy as TorchScript with a manifest; one on states in a folder that is also taken for a run."""

    checkpoint: Positional[Path]
    """Folder of a training run."""
    out: Path
    """Folder of the exported model, such as models/one_leg."""
    dataset: Path | None = None
    """Of a policy on images: what it was trained on; the golden input is one of those observations."""
    evaluation: tuple[Path, ...] = ()
    """Of a policy on states: files of `resip evaluate --json`, for its card."""

    def run(self) -> None:
        """Write the model."""
        from resip_training.checkpoints import is_state_run
        from resip_training.export import export_policy
        from resip_training.export_teacher import export_teacher

        if is_state_run(self.checkpoint):
            export_teacher(self.checkpoint, self.out, self.evaluation)
        elif self.dataset is None:
            raise ResipError(f"{self.checkpoint} is a policy on images: give the --dataset that it was trained on")
        else:
            export_policy(self.checkpoint, self.dataset, self.out)


@dataclass(frozen=True)
class Parity:
    """Compare the arm in training with the arm behind the bridge: step responses, and replays through the graph."""

    out: Path = Path("docs/images")
    """Folder of the two plots."""
    episodes: Natural = 10
    """Expert episodes to replay through the ROS graph; 0 measures the step responses only."""
    seed: Natural = 3000
    """First seed of the replayed episodes."""
    record: Path = Path("trials/parity")
    """Folder of the replays' recordings; what is there is not run again."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and plot both."""
        from resip_training.parity import run_parity

        run_parity(self.out, self.episodes, self.seed, self.record, self.json)


@dataclass(frozen=True)
class BenchSim:
    """Measure how fast each task is simulated, and where the time goes, beside robosuite and ManiSkill."""

    seconds: Annotated[float, AtLeast(1)] = 600.0
    """Simulated time of each simulator."""
    worlds: Count = 64
    """Worlds of a task that are stepped together, in one thread."""
    peers: bool = True
    """Run the other simulators as well; on first use their packages are downloaded, 6 GB of them."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and print two tables."""
        from resip_training.bench.sim import bench_sim

        bench_sim(self.seconds, self.worlds, self.peers, self.json)


@dataclass(frozen=True)
class BenchBC:
    """Measure how fast states are cloned, beside robomimic's loader and loop with a network of the same size."""

    dataset: Positional[Path]
    """Demonstrations that `resip collect` recorded."""
    updates: Count = 200
    """Updates that are timed in each turn."""
    repeats: Count = 5
    """Turns of each program."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and print a table."""
        from resip_training.bench.bc import bench_bc

        bench_bc(self.dataset, self.updates, self.repeats, self.json)


@dataclass(frozen=True)
class BenchPolicy:
    """Measure an exported policy on images from frames to chunk, beside an eager loop of the same weights."""

    model: Positional[Path] = Path("models/one_leg")
    """Folder of the exported model."""
    turns: Count = 200
    """Turns of each."""
    threads: Count = 1
    """Threads that torch computes with."""
    device: str = "cpu"
    """Where both compute: cpu or cuda."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and print a table."""
        from resip_training.bench.policy import bench_policy

        bench_policy(self.model, self.turns, self.threads, self.device, self.json)


@dataclass(frozen=True)
class BenchBlending:
    """Measure how smooth the command is where one chunk of a policy on images follows another."""

    model: Positional[Path] = Path("models/one_leg")
    """Folder of a training run or of an exported model."""
    episodes: Count = 3
    """Episodes in the training environment whose chunks are recorded."""
    seed: Natural = 64_000
    """First seed; the others follow it."""
    blend_steps: Count = 3
    """Control steps over which a new chunk takes over."""
    late_steps: Natural = 1
    """Control steps from a chunk's observation to its arrival."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Record, execute both ways and print the jerk."""
        from resip_training.bench.blending import bench_blending

        bench_blending(self.model, self.episodes, self.seed, self.blend_steps, self.late_steps, self.json)


@dataclass(frozen=True)
class BenchGpu:
    """Measure how fast the physics runs on a GPU, and how sound it stays there."""

    task: Positional[str] = "one_leg"
    """Name of the task."""
    device: str = "cuda"
    """What to measure: cuda, or cuda:1 for the second GPU."""
    worlds: Annotated[tuple[int, ...], AtLeast(1)] = (1024, 2048, 4096, 8192)
    """Numbers of worlds to step at once."""
    demos: Count = 32
    """Demonstrations of the expert that the worlds replay."""
    episodes: Natural = 50
    """Episodes of the expert on the device."""
    seed: Natural = 990_000
    """First seed."""
    threads: Natural = 0
    """Of the CPU's physics, which records and settles; 0 takes all cores."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and print the figures."""
        from resip_training.bench.gpu import bench_gpu

        bench_gpu(self)


@dataclass(frozen=True)
class BenchSoak:
    """Let a task's expert drive many worlds for long, and watch the memory."""

    task: Positional[str] = "one_leg"
    """Name of the task."""
    worlds: Count = 64
    """Worlds that are stepped together, in one thread."""
    steps: Count = 100_000
    """Control steps of all worlds together; the growth is that after each world's first episode."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Run, print the memory, and fail if it is too much or grows."""
        from resip_training.bench.soak import soak_sim

        soak_sim(self.task, self.worlds, self.steps, self.json)


@dataclass(frozen=True)
class ValidateSim:
    """Compare the threads that training simulates with the true shapes, and run the expert of one_leg on those."""

    episodes: Natural = 3
    """Episodes of the expert on the true shapes, some minutes each."""
    seed: Natural = 660_000
    """First seed; the others follow it."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure, run and print both."""
        from resip_training.validation.run import validate_sim

        validate_sim(self.episodes, self.seed, self.json)


def _write_json(figures: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json_format.dumps(figures, indent=2) + "\n")


COMMANDS: Final[dict[str, type[Any]]] = {
    "expert": Expert,
    "starts": Starts,
    "collect": Collect,
    "data info": DataInfo,
    "data coverage": DataCoverage,
    "data import": DataImport,
    "data salvage": DataSalvage,
    "bag to-dataset": BagToDataset,
    "bag to-lerobot": BagToLerobot,
    "rollout": Rollout,
    "render": Render,
    "sheet": Sheet,
    "usd": Usd,
    "play": Play,
    "train bc": TrainBC,
    "train residual-ppo": TrainResidualPPO,
    "train residual-offpolicy": TrainResidualOffPolicy,
    "train chunk-ppo": TrainChunkPPO,
    "train idql": TrainIDQL,
    "train distill": TrainDistill,
    "evaluate": Evaluate,
    "report": Report,
    "figure teacher": FigureTeacher,
    "figure scaling": FigureScaling,
    "figure coverage": FigureCoverage,
    "export": Export,
    "parity": Parity,
    "bench sim": BenchSim,
    "bench bc": BenchBC,
    "bench policy": BenchPolicy,
    "bench blending": BenchBlending,
    "bench gpu": BenchGpu,
    "bench soak": BenchSoak,
    "validate sim": ValidateSim,
}
