# make setup   create the virtual environment with everything in it (quick when nothing changed)
# make demo    one trial of one_leg on the simulated cell with the shipped policy, and its report
# make test    everything that must hold before a commit lands: lint, types, tests
# make one-leg-policy   roll the teacher out, render, distil and export models/one_leg again (three hours on two cores, 24 GB)
# make varied-looks-policy   one_leg's policy for cells of any look: the same rollouts, rendered with another look each time (two hours)
# make peg-hole-policy  the same for peg_hole, as its cell looks (two hours)
# make results          measure again what docs/results.md reports (an hour, on an otherwise idle machine)
# make row/TASK/LEVEL/POLICY[/ALGORITHM]   train and measure one row of the learned policies in docs/results.md
# make ablation/TASK/LEVEL/POLICY/ALGORITHM      the same row with one setting of the residual changed at a time
# make study/teacher/TASK/LEVEL, make study/scaling/TASK/LEVEL   the paper's figures 4 and 5: students of a teacher
# make study/coverage SIM=DIR REAL=DIR   the paper's figure 8: what simulated and real demonstrations cover
# make sheets           draw docs/images/sheet_TASK.png again: what the cameras see of each task
# make validate-sim     the simulated screw beside the meshes' true shapes (ten minutes)
# make soak-sim         memory of 256 worlds over 100 000 control steps (ten minutes)
# make soak             the graph of a real robot for an hour (MINUTES=...), into docs/results; on an otherwise idle machine
# make faults           put faults into running graphs, measure how soon the arm holds; writes docs/safety.md (ten minutes)
# make bench-gpu        speed and soundness of the physics on this machine's GPU, into docs/results
# VENV=DIR uses another virtual environment, PYTEST_ARGS=... goes to pytest.

VENV ?= .venv
MINUTES ?= 60
PYTEST_ARGS ?=
BIN := $(VENV)/bin

# DDS stays on this machine
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: setup demo test-packages test lint format clean one-leg-policy varied-looks-policy peg-hole-policy results study/coverage sheets validate-sim soak-sim soak faults bench-gpu

setup:
	@scripts/setup.sh $(VENV)

# another ROS graph on this machine keeps its own domain
demo: export ROS_DOMAIN_ID ?= 77
demo: setup
	$(BIN)/resip trial one_leg --n 1 --seed 1

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/hadolint docker/*/Dockerfile

# what only tests need: a browser that looks at the operator's page, and the other way to draw off screen
test-packages:
	@{ [ -n "$$(which chromium chromium-browser google-chrome 2>/dev/null)" ] && /sbin/ldconfig -p | grep -q 'libOSMesa\.so'; } || \
	{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium libosmesa6 >/dev/null; } || \
	echo "resip test: tests of what is missing are skipped; apt-get install chromium libosmesa6"

test: lint test-packages
	# a core for each process; all tests of a file are one process's, and share what it has trained
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS) tests/core tests/polymetis tests/sim tests/training
	# one after the other, for a graph needs all cores; and apart from the others, for a process that has loaded both
	# halves (DDS, OpenGL, torch, librealsense) crashes as it ends
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest $(PYTEST_ARGS) tests/nodes tests/system

# the second time with the teacher and a clone of it pushed off their way, so that the policy sees how they come back
one-leg-policy: setup
	$(BIN)/resip rollout models/one_leg_teacher --episodes 400 --threads 2 --out data/rollouts/one_leg-low
	$(BIN)/resip render data/rollouts/one_leg-low --every never --out data/rendered/one_leg-low
	$(BIN)/resip train distill --sim data/rendered/one_leg-low --out runs/one_leg-low-rgb-calm --minutes 62 --threads 1
	BIN=$(BIN) ROLLOUTS=900 DISTURB_M=0.003 scripts/row.sh one_leg low dp
	$(BIN)/resip rollout runs/one_leg-low-dp-rollouts-900-disturbed --episodes 700 --seed 2001000 --disturb-m 0.003 \
		--out data/rollouts/one_leg-low-clone-700-disturbed
	$(BIN)/resip render data/rollouts/one_leg-low-900-disturbed --every never --stride 3 \
		--out data/rendered/one_leg-low-900-disturbed
	$(BIN)/resip render data/rollouts/one_leg-low-clone-700-disturbed --every never --stride 4 \
		--out data/rendered/one_leg-low-clone-700-disturbed
	$(BIN)/resip train distill --sim data/rendered/one_leg-low-900-disturbed data/rendered/one_leg-low-clone-700-disturbed \
		--begin-with runs/one_leg-low-rgb-calm --out runs/one_leg-low-rgb --minutes 50 --threads 2 --memory-gb 16.5
	$(BIN)/resip export runs/one_leg-low-rgb --dataset data/rendered/one_leg-low-900-disturbed --out models/one_leg

varied-looks-policy: setup
	$(BIN)/resip rollout models/one_leg_teacher --episodes 900 --disturb-m 0.003 --out data/rollouts/one_leg-low-900-disturbed
	$(BIN)/resip render data/rollouts/one_leg-low-900-disturbed --every frame --stride 8 \
		--out data/rendered/one_leg-low-900-disturbed-varied-looks
	$(BIN)/resip train distill --sim data/rendered/one_leg-low-900-disturbed-varied-looks --begin-with models/one_leg \
		--out runs/one_leg-low-rgb-varied-looks --minutes 50 --threads 1 --memory-gb 9
	$(BIN)/resip export runs/one_leg-low-rgb-varied-looks --dataset data/rendered/one_leg-low-900-disturbed-varied-looks \
		--out models/one_leg_varied_looks

# the second time with larger pushes too, images that are not shifted, and a chunk after every action
peg-hole-policy: setup
	$(BIN)/resip rollout models/peg_hole_teacher --episodes 900 --disturb-m 0.0015 --out data/rollouts/peg_hole-low-900-disturbed
	$(BIN)/resip rollout models/peg_hole_teacher --episodes 900 --seed 2003001 --disturb-m 0.003 \
		--out data/rollouts/peg_hole-low-900-disturbed-more
	$(BIN)/resip render data/rollouts/peg_hole-low-900-disturbed --every never --stride 2 \
		--out data/rendered/peg_hole-low-900-disturbed
	$(BIN)/resip render data/rollouts/peg_hole-low-900-disturbed-more --every never --stride 2 \
		--out data/rendered/peg_hole-low-900-disturbed-more
	$(BIN)/resip train distill --sim data/rendered/peg_hole-low-900-disturbed --encoder-weights models/one_leg \
		--out runs/peg_hole-low-rgb-first --minutes 50 --threads 1 --memory-gb 9
	$(BIN)/resip train distill --sim data/rendered/peg_hole-low-900-disturbed data/rendered/peg_hole-low-900-disturbed-more \
		--begin-with runs/peg_hole-low-rgb-first --shift-px 0 --action-horizon 1 \
		--out runs/peg_hole-low-rgb --minutes 60 --threads 1 --memory-gb 9
	$(BIN)/resip export runs/peg_hole-low-rgb --dataset data/rendered/peg_hole-low-900-disturbed --out models/peg_hole

results: export ROS_DOMAIN_ID ?= 77
results: setup
	$(BIN)/resip expert all --randomness low med --seed 773000 --json docs/results/experts.json
	$(BIN)/resip parity --seed 5000 --json docs/results/parity.json
	$(BIN)/resip trial one_leg --n 20 --seed 882000 --json docs/results/trials_one_leg.json
	$(BIN)/resip bench sim --json docs/results/bench_sim.json
	$(BIN)/resip bench bc data/states/one_leg-low --json docs/results/bench_bc.json
	$(BIN)/resip bench policy --json docs/results/bench_policy.json
	$(BIN)/resip bench blending --json docs/results/bench_blending.json

# such as row/one_leg/low/dp or row/one_leg/low/dp/residual-ppo; SEED=1 for another seed of the training
row/%: setup
	BIN=$(BIN) scripts/row.sh $(subst /, ,$*)

ablation/%: setup
	BIN=$(BIN) scripts/ablation.sh $(subst /, ,$*)

study/teacher/% study/scaling/%: setup
	BIN=$(BIN) scripts/study_$(word 2,$(subst /, ,$@)).sh $(subst /, ,$*)

study/coverage: setup
	BIN=$(BIN) scripts/study_coverage.sh $(SIM) $(REAL)

validate-sim: setup
	$(BIN)/resip validate sim --json docs/results/validate_sim.json

soak-sim: setup
	$(BIN)/resip bench soak --worlds 256 --json docs/results/soak_sim.json

soak: export ROS_DOMAIN_ID ?= 77
soak: setup
	$(BIN)/resip soak --minutes $(MINUTES) --json docs/results/soak.json

faults: export ROS_DOMAIN_ID ?= 77
faults: setup
	$(BIN)/resip faults --json docs/results/faults.json --table docs/safety.md

sheets: setup
	$(BIN)/resip sheet --out docs/images

bench-gpu: setup
	$(BIN)/resip bench gpu --json docs/results/bench_gpu.json

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .ruff_cache .hypothesis
