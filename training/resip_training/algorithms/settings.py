"""Settings of the reinforcement learning algorithms, without torch: the command line shows them.

What differs from the paper is said where it stands, with the reason; the paper's values are in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tyro.conf import Suppress

from resip_training.models.poses import Poses


@dataclass(frozen=True)
class OnlineConfig:
    """What every algorithm that learns in worlds has to choose; the paper's values stand in brackets.

    Attributes:
      num_envs: worlds [1024].
      width: of the networks' two hidden layers [256].
      poses: as these networks are told them [absolute], see `Poses`; whether an action helps is decided by errors of a
        tenth of a millimetre, which are lost in the robot's frame.
      along_demonstrations: share of the episodes that begin at a state along a demonstration [0], see `Starts`:
        sparse rewards are found in minutes instead of hours.
      episode_steps: after so many control steps an episode is cut [by the task's time limit alone, which 0 means], see
        `TrainingWorlds`.
      validation_episodes: of the base alone and of what is learned, on the same seeds.
      validations: over the run.
      seed: of everything random; an option of the command.
    """

    num_envs: int = 64
    width: int = 256
    poses: Poses = "goals"
    along_demonstrations: float = 0.5
    episode_steps: int = 150
    validation_episodes: int = 100
    validations: int = 10
    seed: Suppress[int] = 0


@dataclass(frozen=True)
class ResidualConfig(OnlineConfig):
    """What every residual algorithm has to choose.

    Attributes:
      alpha: scale of the residual in normalised actions [0.1].
    """

    alpha: float = 0.1


@dataclass(frozen=True)
class PPOConfig(OnlineConfig):
    """Settings of PPO; the defaults are sized for two cores, those of the paper stand in brackets.

    Attributes:
      rollout_steps: actions of each world between updates [one whole episode: 1024 worlds make up for it].
      epochs: over a rollout, unless the KL stop comes first.
      minibatches: per epoch [1]; with a fiftieth of the paper's samples, more steps are had from them.
      actor_rate: AdamW's step size; where ``kl_step`` is given, what it starts from.
      critic_rate: of the critic's AdamW.
      kl_step: the step size follows the KL divergence that an iteration makes, towards this; 0 leaves it to the
        cosine, as in the paper. With few samples a rate is too large in one phase and too small in the next.
      kl_stop: an update ends when the divergence passes this [0.1].
      clip: of the probability ratio [0.2].
      discount: gamma, per action [0.999].
      trace: lambda [0.95].
      value_weight: of the value loss [1.0].
      clip_norm: of the gradient [1.0].
      log_std: of the exploration at first.
      learn_std: whether it is learned.
      noise_memory: share of the exploration that stays from one action to the next [0], as in "Colored Noise in PPO"
        (arXiv 2312.11091): what a correction is worth shows where the hand is a moment later, and an arm does not
        follow what changes ten times a second.
      critic_first: iterations in which only the critic learns [0]; the first advantages are noise.
      normalize_reward: divide by the running deviation of the rewards, and clip at 5.
    """

    rollout_steps: int = 128
    epochs: int = 8
    minibatches: int = 4
    actor_rate: float = 3e-4
    critic_rate: float = 1e-3
    kl_step: float = 0.02
    kl_stop: float = 0.1
    clip: float = 0.2
    discount: float = 0.999
    trace: float = 0.95
    value_weight: float = 1.0
    clip_norm: float = 1.0
    log_std: float = -1.5
    learn_std: bool = False
    noise_memory: float = 0.0
    critic_first: int = 5
    normalize_reward: bool = False


@dataclass(frozen=True)
class ResidualPPOConfig(ResidualConfig, PPOConfig):
    """Settings of PPO for a residual.

    Attributes:
      rollout_steps: of each world between updates [700].
      epochs: over a rollout, unless the KL stop comes first [50].
      actor_rate: AdamW's step size; where ``kl_step`` is given, what it starts from [3e-4].
      critic_rate: of the critic's AdamW [5e-3].
      log_std: of the exploration, before alpha [-1.5].
      learn_std: [False].
      sees_base_action: of the residual [True].
      whiten: show actor and critic whitened inputs [False], see `Whitening`: poses and actions move together, and
        what decides an insertion is in their small differences. Taken from the first rollout.
      normalize_reward: divide by the running deviation of the rewards, and clip at 5 [True]. Rewards are 0 and 1 and
        returns at most the number of pairs, so their scale is known; the deviation of a rare event only inflates it.
    """

    noise_memory: float = 0.8
    sees_base_action: bool = True
    whiten: bool = True


#: Tables 6 and 9. What the defaults above change, and why, is said there.
PAPER_RESIDUAL_PPO: Final = ResidualPPOConfig(
    rollout_steps=700,
    epochs=50,
    minibatches=1,
    critic_rate=5e-3,
    kl_step=0.0,
    critic_first=0,
    along_demonstrations=0.0,
    episode_steps=0,
    normalize_reward=True,
    num_envs=1024,
    poses="absolute",
    noise_memory=0.0,
    whiten=False,
)


@dataclass(frozen=True)
class ResidualOffPolicyConfig(ResidualConfig):
    """Settings; where they differ from RLPD's (in brackets), the reason is given.

    Attributes:
      discount: gamma of a control step [0.99]; the only reward may lie hundreds of steps ahead.
      n_steps: of a return before the critics' value takes over [1]; for the same reason.
      batch_size: transitions of an update [256].
      update_ratio: critic updates per control step [20]. That is for robots, whose steps are dear; two cores simulate
        hundreds of steps a second, and success comes soonest with fewer updates of more data.
      critics: members of the ensemble [10]; half of them, for half the time.
      critic_rate: Adam's step size for the critics [3e-4].
      actor_rate: Adam's step size for the actor [3e-4]; with next to no penalty it ran away on what critics say of
        corrections that nobody has tried, and one_leg fell from 53 % to 0 within 40 000 control steps.
      actor_delay: critic updates per actor update [20, its update ratio; TD3 takes 2].
      average_rate: share of the actor that acts when it is not exploring which an update of the one that learns
        replaces [1]: a tight fit is lost and found again within a few hundred updates.
      target_rate: share of the slow critics that an update replaces [0.005].
      warmup: control steps of the base with noise around it, before any update [5000].
      critic_first: updates in which only the critics learn [0]; the first values are noise.
      prior_share: of each batch, from demonstrations and warm-up [0.5]; the warm-up's steps are of a base alone that
        what is learned soon does better than.
      noise: deviation of the exploration before alpha, from the first to the second over the worlds [the entropy
        term decides]; so there is always data close to the policy and data far from it. What a correction of one
        step is worth is next to nothing beside how far critics disagree: with 0.02 to 0.2, forgotten from one step to
        the next, they saw too little of it to gain more than 4 of the 10 % that these gain.
      noise_memory: share of the noise that stays from one control step to the next [0], see `PPOConfig`.
      target_noise: deviation of the noise on the residual that a target is taken at (TD3's smoothing).
      residual_penalty: weight of the mean squared residual in the actor's loss, against values up to the number of
        pairs [0]: where the critics see no difference, the base's action stays. With 0.5 it did nearly everywhere.
        Where the base seldom succeeds or the task is long, 0.2: with less, round_table lost what its base could.
      max_q: act, and bootstrap, with the base's action wherever the critics value it as high as the corrected one.
      capacity: transitions that are kept beside demonstrations and warm-up [1 M].
    """

    discount: float = 0.995
    n_steps: int = 5
    batch_size: int = 256
    update_ratio: float = 0.25
    critics: int = 5
    critic_rate: float = 3e-4
    actor_rate: float = 1e-4
    actor_delay: int = 2
    average_rate: float = 0.001
    target_rate: float = 0.01
    warmup: int = 10_000
    critic_first: int = 4_000
    prior_share: float = 0.25
    noise: tuple[float, float] = (0.05, 0.4)
    noise_memory: float = 0.9
    target_noise: float = 0.1
    residual_penalty: float = 0.05
    max_q: bool = False
    capacity: int = 500_000


@dataclass(frozen=True)
class ChunkPPOConfig(PPOConfig):
    """Settings of PPO for an MLP's chunks: an action is a chunk, so that 700 steps are 87 actions.

    The deviation is in units of normalised actions and, as in the reference code, learned.

    Attributes:
      rollout_steps: chunks of each world between updates [87].
      epochs: over a rollout, unless the KL stop comes first [1]; the same samples serve more often where there are
        a fiftieth of them.
      actor_rate: see `PPOConfig` [1e-4]; with it the first update of a compact policy went 50 nats away from
        the cloned one, and after 0.65 M control steps it was where it had begun.
      kl_step: see `PPOConfig`; of a chunk of 80 numbers, where a residual has 10.
      critic_rate: of the critic's AdamW [1e-4]; with few updates it would not follow the policy.
      log_std: of the exploration at first [-4].
      kl_weight: of the divergence from the cloned policy [0.5], in closed form. (The reference code takes the
        likelihood of one sample instead, which is noisier and narrows the deviation besides.)
      cosine: step sizes fall to zero over the run [False]; a short run ends settled.
    """

    rollout_steps: int = 32
    epochs: int = 4
    actor_rate: float = 5e-6
    kl_step: float = 0.08
    log_std: float = -4.0
    learn_std: bool = True
    kl_weight: float = 0.5
    cosine: bool = True


#: Tables 6 and 7. What the defaults above change, and why, is said there.
PAPER_CHUNK_PPO: Final = ChunkPPOConfig(
    rollout_steps=87,
    epochs=1,
    minibatches=1,
    actor_rate=1e-4,
    critic_rate=1e-4,
    kl_step=0.0,
    cosine=False,
    critic_first=0,
    along_demonstrations=0.0,
    episode_steps=0,
    num_envs=1024,
    poses="absolute",
)


@dataclass(frozen=True)
class IDQLConfig(OnlineConfig):
    """Settings of the choice by Q among a diffusion policy's chunks; the paper's values stand in brackets.

    Attributes:
      rollout_chunks: of each world between updates [87, one whole episode: 1024 worlds make up for it].
      epochs: over a rollout [10].
      minibatches: per epoch [1]; with a fiftieth of the paper's samples, more steps are had from them.
      critic_rate: AdamW's step size, cosine to zero [1e-4]; with few updates it would not get anywhere.
      discount: gamma, per chunk [0.999].
      trace: lambda of the returns [0.95].
      clip_norm: of the gradient [1.0].
      samples: chunks to choose from [20].
      log_std: of the noise that training adds to chunks, in units of normalised actions [-4]; a diffusion policy's
        own chunks hardly differ, and Q would not learn what difference an action makes. What is chosen from when
        it acts are the policy's own chunks.
    """

    rollout_chunks: int = 32
    epochs: int = 10
    minibatches: int = 4
    critic_rate: float = 3e-4
    discount: float = 0.999
    trace: float = 0.95
    clip_norm: float = 1.0
    samples: int = 20
    log_std: float = -4.0


#: Tables 6 and 8. What the defaults above change, and why, is said there.
PAPER_IDQL: Final = IDQLConfig(
    rollout_chunks=87,
    minibatches=1,
    critic_rate=1e-4,
    along_demonstrations=0.0,
    episode_steps=0,
    num_envs=1024,
    poses="absolute",
)
