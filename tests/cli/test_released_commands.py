"""Command lines as the field's released code takes them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from cliptune.cli.released.commands import in_our_words
from cliptune.registry import add_ons, names
from cliptune.registry.building import find
from cliptune.registry.recipes import PROTOCOLS
from cliptune.registry.released_settings import released, released_trainers

MAPLE = "configs/trainers/MaPLe/vit_b16_c2_ep5_batch4_2ctx.yaml"
FILES = {
    "configs/datasets/caltech101.yaml": 'DATASET:\n  NAME: "Caltech101"\n',
    MAPLE: """
DATALOADER: {TRAIN_X: {BATCH_SIZE: 4}, TEST: {BATCH_SIZE: 100}, NUM_WORKERS: 8}
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM: {NAME: "sgd", LR: 0.0035, MAX_EPOCH: 5, LR_SCHEDULER: "cosine", WARMUP_EPOCH: 1, WARMUP_CONS_LR: 1e-5}
TRAIN: {PRINT_FREQ: 20}
MODEL: {BACKBONE: {NAME: "ViT-B/16"}}
TRAINER: {MAPLE: {N_CTX: 2, CTX_INIT: "a photo of a", PREC: "fp16", PROMPT_DEPTH: 9}}
""",
    "coop.yaml": "OPTIM: {LR: 0.002, MAX_EPOCH: 200, NAME: adam}\nTRAINER: {COOP: {CTX_INIT: a_photo_of_a}}\n",
    "kgcoop.yaml": "TRAINER: {COOP: {CTX_INIT: True}}\n",
    "dpc.yaml": """
DATALOADER: {TRAIN_X: {BATCH_SIZE: 8}}
OPTIM: {LR: 0.0035, MAX_EPOCH: 10}
MODEL: {BACKBONE: {NAME: "ViT-B/16"}}
SPLE: {STACK: {MODE: converse, WEIGHT: 0.2, WEIGHT_FOR_NEW: 0.0}, INFER_TOPK: 4, PIC_LIB: lib.json}
""",
    "promptsrc.yaml": "TEST: {FINAL_MODEL: best_val}\nTRAINER: {PROMPTSRC: {GPA_MEAN: 45, GPA_STD: 5}}\n",
    "tip.yaml": """
root_path: data
dataset: fgvc
shots: 16
backbone: RN50
search_hp: True
search_scale: [30, 30]
init_beta: 1
init_alpha: 5
lr: 0.001
augment_epoch: 10
train_epoch: 20
""",
    "list.yaml": "- a\n",
    "configs/few_shots/dtd.yaml": "{root_path: data, dataset: dtd, shots: 16, backbone: RN50, subsample_classes: all, "
    "augment_epoch: 10}\n",
    "configs/base2new/dtd.yaml": "{dataset: dtd, shots: 8, backbone: ViT-B/16, subsample_classes: base, "
    "augment_epoch: 5}\n",
    "configs/robustness/imagenet.yaml": "{dataset: imagenet, shots: 16, backbone: RN50, subsample_classes: all, "
    "lr: 0.1, augment_epoch: 10, train_epoch: 25}\n",
    "ape.yaml": """
{root_path: data, seed: 3407, search_hp: True, search_scale: [30, 5, 1.5], search_step: [200, 20, 20], init_beta: 1,
 init_alpha: 1, init_gamma: 0.1, eps: 0.001, training_feat_num: 900, training_free_feat_num: 256,
 w_training_free: [0.9, 0.1], w_training: [0.2, 0.8], dataset: eurosat, backbone: RN50, lr: 0.001, augment_epoch: 10,
 train_epoch: 200}
""",
    "channels.yaml": "{init_gamma: 0.1, search_scale: [7, 7, 1], search_step: [200, 20, 5], training_feat_num: 700, "
    "training_free_feat_num: 400, w_training_free: [0.5, 0.5], w_training: [0.2, 0.8], dataset: dtd, "
    "backbone: other.pt}\n",
    "nothing.yaml": "{init_gamma: 0.1, w_training: [0.2, 0.8]}\n",
    "lp.yaml": "{root_path: data, method: LinearProbe_P2, shots: 4, tasks: 3, backbone: RN50, train_epoch: 200}\n",
    "prolip.yaml": "{method: ProLIP, backbone: ViT-B/16, SUBSAMPLE_CLASSES: base, train_epoch: 300, search_lr: False, "
    "lr_v: 0.001, lambda_v: 0.5, lambda_funct_1_N: False, lambda_funct_1_N2: True, aug_views: 300}\n",
    "tda/dtd.yaml": """
positive: {enabled: True, shot_capacity: 3, alpha: 2.0, beta: 4.0}
negative: {enabled: True, shot_capacity: 2, alpha: 0.117, beta: 1.0,
  entropy_threshold: {lower: 0.1, upper: 0.5}, mask_threshold: {lower: 0.03, upper: 1.0}}
""",
    "tda/imagenet_s.yaml": "{positive: {enabled: True, alpha: 2.363, beta: 7.45}, negative: {enabled: False}}\n",
    "blind/dtd.yaml": "positive: {enabled: False}\n",
}
USUAL = f"--root D --seed 1 --dataset-config-file configs/datasets/caltech101.yaml --config-file {MAPLE}"


@pytest.fixture
def files():
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def translated(line: str) -> list[str]:
    return [shlex.join(command) for command in in_our_words(["train", *shlex.split(line)])]


TRAINED = "train --method {} --data caltech101 --root D --seed 1"
LINES = {
    f"--trainer MaPLe {USUAL} --output-dir out DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base": (
        "train --method maple --data caltech101 --root D --backbone ViT-B/16 --out out --shots 16 --seed 1 "
        "--classes base --set depth=9"
    ),
    f"--trainer MaPLe {USUAL} --mode dapt-g DATASET.NUM_SHOTS 1 OPTIM.MAX_EPOCH 10 TRAINER.MAPLE.PROMPT_DEPTH 3": (
        "train --method maple+dapt --data caltech101 --root D --backbone ViT-B/16 --shots 1 --seed 1 "
        "--set epochs=10 --set depth=3"
    ),
    f"--trainer MaPLe {USUAL} DATASET.SELECTION_RATIO 0.5 DATASET.SELECTION_METHOD Uncertainty": (
        "bench data_efficient --methods maple --data caltech101 --root D --backbone ViT-B/16 --fractions 0.5 "
        "--selections margin --seeds 1 --set depth=9"
    ),
    "--trainer CoOp --seed 2 --config-file coop.yaml --backbone RN50 DATASET.NAME DescribableTextures": (
        "train --method coop --data dtd --backbone RN50 --shots 0 --seed 2 --set epochs=200"
    ),
    "--trainer CoOp --seed 1 --config-file gone/vit_b16_ep50_ctxv1.yaml --dataset-config-file gone/imagenet.yaml "
    "TRAINER.COOP.N_CTX 8 DATASET.NUM_SHOTS 16": (
        "train --method coop --data imagenet --backbone ViT-B/16 --shots 16 --seed 1 --recipe few_shot --set n_ctx=8"
    ),
    "--trainer KgCoOp --seed 1 --config-file kgcoop.yaml DATASET.NAME dtd TRAINER.COOP.W 8.0 DATASET.NUM_SHOTS 4": (
        "train --method kgcoop --data dtd --shots 4 --seed 1 --set form=released"
    ),
    "--trainer PromptSRC --seed 1 --config-file promptsrc.yaml DATASET.NAME OxfordFlowers DATASET.NUM_SHOTS 4": (
        "train --method promptsrc --data oxford_flowers --shots 4 --seed 1 --set depth_text=9 --set depth_image=9 "
        "--set gpa_mean=45.0 --set gpa_std=5.0 --set select=val"
    ),
    "--trainer StackSPLE_CoOp --seed 1 --config-file dpc.yaml DATASET.NAME dtd DATASET.NUM_SHOTS 16 "
    "DATASET.SUBSAMPLE_CLASSES base": (
        "train --method coop+dpc --data dtd --backbone ViT-B/16 --shots 16 --seed 1 --classes base --recipe base2new "
        "--set dpc_mode=released --set dpc_negatives=4 --set dpc_lr=0.0035 --set dpc_batch_size=8 --set dpc_epochs=10"
    ),
    "--trainer PromptKD --seed 1 --config-file gone/vit_b16_c2.yaml DATASET.NAME fgvc DATASET.NUM_SHOTS 0 "
    "TRAINER.MODAL base2novel TRAINER.PROMPTKD.KD_WEIGHT 1000.0": (
        "train --method promptkd --data fgvc_aircraft --backbone ViT-B/16 --shots 0 --seed 1 --recipe base2new "
        "--set weight=1000.0 --set transductive=true"
    ),
    "--trainer ZeroshotCLIP --seed 1 --eval-only --config-file gone/rn50.yaml DATASET.NAME imagenet_a": (
        "train --method zeroshot --data imagenet_a --backbone RN50 --shots 0 --seed 1"
    ),
    "--root_path D --dataset fgvc --seed 2 --shots 4 --params q v --r 4 --encoder vision --save_path S": (
        "train --method clip_lora --data fgvc_aircraft --root D --backbone ViT-B/16 --shots 4 --seed 2 "
        "--out S/ViT-B-16/fgvc_aircraft/4shots/seed2 --set rank=4 --set towers=image --set projections=qv "
        "--set steps_per_shot=500"
    ),
    "--root_path D --dataset dtd --shots 1 --save_path S --backbone w.pt --activation gelu": (
        "train --method clip_lora --data dtd --root D --backbone w.pt --activation gelu --shots 1 --seed 1 "
        "--out S/w.pt/dtd/1shots/seed1 --set steps_per_shot=500"
    ),
    "--trainer ZeroshotCLIP --seed 1 --eval-only --backbone w.pt --arch ViT-B-16 DATASET.NAME imagenet_a": (
        "train --method zeroshot --data imagenet_a --backbone w.pt --arch ViT-B-16 --shots 0 --seed 1"
    ),
    "--root_path D --dataset dtd --save_path S --eval_only": "eval S/ViT-B-16/dtd/16shots/seed1 --root D",
    "--root_path D --dataset dtd --shots 4 --seed 2 --mode twostage --n_iters_frac 0.3 --ln_modality vision": (
        "train --method two_stage --data dtd --root D --backbone ViT-B/16 --shots 4 --seed 2 --recipe few_shot "
        "--set share=0.3 --set towers=image"
    ),
    "--root_path D --dataset dtd --shots 4 --setting base2new --n_iters 100": (
        "bench base2new --methods two_stage --data dtd --root D --backbone ViT-B/16 --shots 4 --seeds 1 --recipe "
        "--set steps_per_shot=100"
    ),
    "--dataset dtd --shots 4 --mode cliplora --r 4": (
        "train --method clip_lora --data dtd --backbone ViT-B/16 --shots 4 --seed 1 --recipe few_shot --set rank=4 "
        "--set steps_per_shot=300"
    ),
    "--dataset dtd --shots 4 --mode cliplora --setting base2new": (
        "bench base2new --methods clip_lora --data dtd --backbone ViT-B/16 --shots 4 --seeds 1 --set steps_per_shot=300"
    ),
    "--base_config lp.yaml --dataset_config configs/dtd.yaml --opt root_path D output_dir out shots 16": (
        "bench few_shot --methods lp_plus_plus --data dtd --root D --backbone RN50 --shots 16 --seeds 1,2,3 --recipe "
        "--out out --set epochs=200"
    ),
    "--base_config lp.yaml --dataset_config configs/imagenet.yaml --opts tasks 1 train_epoch 300 output_dir o": (
        "train --method lp_plus_plus --data imagenet --root data --backbone RN50 --shots 4 --seed 1 --recipe few_shot "
        "--out o"
    ),
    "--base_config gone.yaml --dataset_config configs/dtd.yaml --opts method ProLIP train_epoch 400": (
        "train --method prolip --data dtd --shots 1 --seed 1 --recipe few_shot --set epochs=400"
    ),
    "--base_config prolip.yaml --dataset_config configs/dtd.yaml --seed 3 --shots 4": (
        "train --method prolip --data dtd --backbone ViT-B/16 --shots 4 --seed 3 --classes base --recipe base2new "
        "--set lr=0.001 --set weight=0.0625"
    ),
    "--base_config prolip.yaml --dataset_config configs/dtd.yaml --opts lambda_funct_1_N True SUBSAMPLE_CLASSES all": (
        "train --method prolip --data dtd --backbone ViT-B/16 --shots 1 --seed 1 --recipe few_shot --set lr=0.001"
    ),
    "--base_config prolip.yaml --dataset_config configs/dtd.yaml --opts lambda_funct_1_N2 False": (
        "train --method prolip --data dtd --backbone ViT-B/16 --shots 1 --seed 1 --classes base --recipe base2new "
        "--set lr=0.001 --set weight=0.5"
    ),
    "--config configs/few_shots/dtd.yaml": (
        "bench few_shot --methods gda --data dtd --root data --backbone RN50 --shots 1,2,4,8,16 --seeds 1,2,3 --recipe"
    ),
    "--config configs/base2new/dtd.yaml": (
        "bench base2new --methods gda --data dtd --backbone ViT-B/16 --shots 8 --seeds 1,2,3 --recipe --set views=5"
    ),
    "--config configs/robustness/imagenet.yaml": (
        "bench domains --methods gda --data imagenet --backbone RN50 --shots 16 --seeds 1,2,3 --recipe"
    ),
    "--config tda --datasets dtd --data-root D --backbone ViT-B/16 --wandb-log": (
        "train --method tda --data dtd --root D --backbone ViT-B/16 --shots 0 --seed 1 --recipe cross "
        "--set beta=4.0 --set least=0.1"
    ),
    "--config tda --datasets S --backbone RN50": (
        "train --method tda --data imagenet_sketch --backbone RN50 --shots 0 --seed 1 --recipe cross "
        "--set negative_alpha=0.0"
    ),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("line", LINES)
def test_a_released_command_line_becomes_one_of_ours(line):
    (command,) = translated(line)
    words = shlex.split(command)
    expected = shlex.split(LINES[line])
    settings = lambda found: {tuple(found[i : i + 2]) for i, word in enumerate(found) if word == "--set"}
    assert settings(words) == settings(expected)
    assert [word for word in words if "=" not in word] == [word for word in expected if "=" not in word]


@pytest.mark.usefixtures("files")
def test_tip_adapters_file_means_both_of_its_methods():
    shared = "--data fgvc_aircraft --root data --backbone RN50 --shots 16 --seed 1 --set alpha=5.0"
    plain, trained = translated("--config tip.yaml")
    assert plain.startswith(f"train --method tip_adapter {shared}")
    assert trained.startswith(f"train --method tip_adapter_f {shared}")
    assert "alpha_max=30.0" in plain
    assert "beta_max=30.0" in plain


@pytest.mark.usefixtures("files")
def test_apes_file_means_both_of_its_methods(capsys):
    """Its recipe for EuroSAT, but for 256 channels of 1024 in place of 700."""
    shared = "--data eurosat --root data --backbone RN50 --shots 4 --seed 1 --recipe few_shot"
    assert translated("--config ape.yaml --shot 4") == [
        f"train --method ape {shared} --set share=0.25",
        f"train --method ape_t {shared}",
    ]
    assert (
        "CuPL's descriptions, which the release averages with the sentences, are not taken" in capsys.readouterr().err
    )


@pytest.mark.usefixtures("files")
def test_tda_runs_on_one_data_set_after_the_other():
    lines = translated("--config gone --datasets I/caltech101 --backbone ViT-B/16")
    assert [line.split()[4] for line in lines] == ["imagenet", "caltech101"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (f"--trainer MaPLe {USUAL} OPTIM.NAME adam", "OPTIM.NAME adam has no counterpart here and was left out."),
        (f"--trainer MaPLe {USUAL} --transforms normalize", "--transforms has no counterpart"),
        (f"--trainer MaPLe {USUAL} --resume old", "the same command goes on"),
        ("--trainer MaPLe --config-file gone.yaml DATASET.NAME dtd", "There is no file gone.yaml here"),
        ("--trainer MaPLe --config-file gone.yaml DATASET.NAME dtd", "No seed was given"),
        ("--trainer StackSPLE_CoOp --config-file dpc.yaml DATASET.NAME dtd", "SPLE.PIC_LIB was left out: hard"),
        ("--trainer PromptKD DATASET.NAME dtd TRAINER.PROMPTKD.TEACHER_NAME ViT-L/14", "set teacher=FOLDER"),
        (f"--trainer MaPLe {USUAL} DATASET.SELECTION_RATIO 0.5 DATASET.SUBSAMPLE_CLASSES base", "CLASSES base is left"),
        (f"--trainer MaPLe {USUAL} DATASET.SELECTION_RATIO 0.5 DATASET.NUM_SHOTS 4", "NUM_SHOTS 4 is left out: with"),
        ("--root_path D --position top3", "--position top3 has no counterpart"),
        ("--dataset dtd --shots 4 --mode twostage --ln_text_start 3", "--ln_text_start 3 has no counterpart here"),
        ("--dataset dtd --shots 4 --wd 0.1", "--wd 0.1 was left out: the decay of weights is 0.01"),
        ("--dataset dtd --shots 4 --exp_name a", "were left out: a run is a folder, named by --out"),
        ("--dataset dtd --shots 4 --mode cliplora --position up", "--position up has no counterpart"),
        ("--base_config gone.yaml --opts method ProLIP", "There is no file gone.yaml here, so the published settings"),
        ("--base_config prolip.yaml --opts search_lr True", "search_lr was left out: rate and weight are those of"),
        ("--base_config prolip.yaml --opts aug_views 10", "aug_views 10 was left out: every epoch sees new views"),
        ("--base_config lp.yaml --seed 7", "--seed 7 was left out: the draws of images have seeds from 1 on"),
        (
            "--base_config lp.yaml --test_config_path t.yaml",
            "--test_config_path t.yaml was left out: a run is",
        ),
        ("--config gone --datasets dtd --backbone RN50", "There is no file gone/dtd.yaml here, so the published"),
    ],
)
def test_what_has_no_counterpart_is_said(line, sentence, capsys):
    translated(line)
    told = capsys.readouterr().err
    assert sentence in told
    assert told.startswith("In words of cliptune:\n  cliptune ")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--trainer MaPle DATASET.NAME dtd", "'MaPle' is no trainer whose meaning is known. Did you mean MaPLe"),
        ("--trainer MaPLe", "there is no data set. Give --dataset-config-file"),
        (f"--trainer MaPLe {USUAL} DATASET.NUM_SHOTS", "'DATASET.NUM_SHOTS' is alone"),
        (f"--trainer MaPLe {USUAL} DATASET.NUM_SHOTS many", "DATASET.NUM_SHOTS must be a number, got 'many'"),
        (f"--trainer MaPLe {USUAL} OPTIM.MAX_EPOCH few", "Option epochs: expected a whole number"),
        (f"--trainer MaPLe {USUAL} --mode dapt-s", "set dapt_source=FOLDER"),
        (f"--trainer MaPLe {USUAL} --no-train", "nothing to do"),
        (f"--trainer MaPLe {USUAL} --eval-only", "--model-dir FOLDER"),
        (f"--trainer MaPLe {USUAL} --eval-only --model-dir gone", "gone holds no finished run"),
        ("--trainer MaPLe --bogus 3", "unrecognized arguments: --bogus"),
        ("--trainer MaPLe --config-file list.yaml", "should hold settings by name, but holds list"),
        ("--config gone.yaml", "there is no file gone.yaml"),
        ("--config kgcoop.yaml", "no configuration of Tip-Adapter"),
        ("--base_config lp.yaml --opts tasks 0", "tasks should be at least 1, got 0"),
        ("--config nothing.yaml", "nothing.yaml names no data set. Add a line such as dataset: dtd"),
        ("--dataset dtd --shots 4 --mode ln_only", "--mode ln_only with --peft ln has no counterpart here"),
        ("--dataset dtd --shots 4 --mode twostage --peft lora", "--mode twostage with --peft lora has no counterpart"),
        ("--dataset dtd --shots 4 --setting all", "--setting is standard or base2new, got 'all'"),
        ("--base_config gone.yaml", "gone.yaml does not say which method. Give that file, or --opts method"),
        ("--base_config gone.yaml --opts method FULLFT", "method FULLFT has no counterpart here"),
        ("--base_config gone.yaml --opts method ProLIP_eval", "scores a finished run: cliptune eval RUN"),
        ("--base_config gone.yaml --opts method ProLIP save_features True", "save_features only keeps features"),
        ("--base_config gone.yaml --opts method", "'method' is alone"),
        ("--base_config gone.yaml --opts method LinearProbe_P2 shots few", "shots must be a number, got 'few'"),
        ("--config channels.yaml", "counts channels, and how many other.pt has is not known"),
        ("--config blind --datasets dtd --backbone RN50", "without the cache of likely classes"),
    ],
)
def test_a_bad_command_line_is_a_sentence(cli, line, sentence):
    answer = cli("train", *shlex.split(line))
    assert answer.code == 2
    assert sentence in answer.err


@pytest.mark.usefixtures("files")
def test_a_released_checkpoint_is_not_a_run_yet(cli):
    Path("old/MultiModalPromptLearner").mkdir(parents=True)
    Path("old/MultiModalPromptLearner/model.pth.tar-5").touch()
    answer = cli("train", *shlex.split(f"--trainer MaPLe {USUAL} --eval-only --model-dir old --load-epoch 5"))
    assert "cliptune convert old/MultiModalPromptLearner/model.pth.tar-5 --from maple" in answer.err


def test_our_own_command_lines_stay_as_they_are():
    for words in (["train", "--method", "coop", "--config", "a.yaml"], ["methods"], [], ["fit", "--trainer", "x"]):
        assert in_our_words(words) == [words]


def test_every_setting_of_a_release_is_an_option_here():
    for trainer, method in released_trainers().items():
        assert trainer
        assert method.split("+")[0] in names()
    for name in (*names(), *add_ons()):
        known = set(find(name).Config.__dataclass_fields__)
        for key in released(name).keys.values():
            assert {key.option, *([key.length] if key.length else [])} <= known
        assert set(released(name).options) <= known
    assert "released" not in PROTOCOLS


@pytest.mark.usefixtures("files")
def test_training_on_base_and_testing_on_new_classes_runs_as_in_the_fields_scripts(cli, backbone, monkeypatch):
    import cliptune.data.tinyworld.suites as suites

    whole = suites.load_suite
    monkeypatch.setattr(suites, "load_suite", lambda name, root=None: whole(name, train=6, val=2, test=2))
    shared = f"--trainer MaPLe --seed 1 --config-file {MAPLE} --backbone {backbone}"
    ends = "DATASET.NAME tinyworld/textures DATASET.NUM_SHOTS 2 TRAINER.MAPLE.PROMPT_DEPTH 2 OPTIM.MAX_EPOCH 1"
    train = cli("train", *shlex.split(f"{shared} --output-dir runs/a {ends} DATASET.SUBSAMPLE_CLASSES base"))
    assert train.code == 0, train.err
    assert "cliptune train --method maple --data tinyworld/textures" in train.err
    config = json.loads(Path("runs/a/adapter_config.json").read_text())["config"]
    assert (config["depth"], config["epochs"], config["batch_size"], config["lr"]) == (2, 1, 4, 0.0035)
    test = f"{shared} --output-dir runs/b --model-dir runs/a --load-epoch 5 --eval-only {ends}"
    new = cli("train", *shlex.split(f"{test} DATASET.SUBSAMPLE_CLASSES new"))
    assert new.code == 0, new.err
    assert "cliptune eval runs/a --classes new" in new.err
    assert {"base", "new"} <= set(json.loads(Path("runs/a/result.json").read_text())["evaluations"])


@pytest.mark.parametrize("scale", ["[1, 2, 3]", "7"])
def test_a_search_scale_of_another_form_is_a_sentence(tmp_path, scale):
    path = tmp_path / "tip.yaml"
    path.write_text(f"dataset: fgvc\ninit_alpha: 5\nsearch_scale: {scale}\n")
    with pytest.raises(ValueError, match="search_scale in .* must be two numbers, got"):
        in_our_words(["train", "--config", str(path)])


def test_settings_that_a_screen_would_obey_are_refused(tmp_path):
    path = tmp_path / "tip.yaml"
    path.write_text('dataset: fgvc\ninit_alpha: 5\nshots: "\\e[31m"\n')
    with pytest.raises(ValueError, match="characters that cannot be printed"):
        in_our_words(["train", "--config", str(path)])


HEAD = "train --root D --seed 1 --dataset-config-file configs/datasets/dtd.yaml --backbone ViT-B/16 --output-dir out"


@pytest.mark.parametrize(
    ("words", "method", "said"),
    [
        ("--trainer MMRL --config-file vit_b16_few_shot.yaml DATASET.NUM_SHOTS 4 TASK FS", "mmrl", ""),
        ("--trainer MMRL DATASET.NUM_SHOTS 4 TRAINER.MMRL.REP_DIM 256", "mmrl", "--set dim=256"),
        ("--trainer MMRLpp DATASET.NUM_SHOTS 4 TRAINER.MMRLpp.BETA 0.5", "mmrl_plus_plus", "--set beta=0.5"),
        ("--trainer TaskRes --enhanced-base none TRAINER.TaskRes.RESIDUAL_SCALE 1.2", "taskres", "--set alpha=1.2"),
        ("--trainer ADAPTER TRAINER.ADAPTER.INIT ZS TRAINER.ADAPTER.CONSTRAINT l2", "clap", ""),
        ("--trainer ADAPTER TRAINER.ADAPTER.INIT ZS TRAINER.ADAPTER.CONSTRAINT none", "zs_probe", ""),
    ],
)
def test_lines_of_the_releases_of_heads_and_read_outs_are_taken(words, method, said, capsys):
    (command,) = in_our_words(shlex.split(f"{HEAD} {words}"))
    assert f"--method {method} --data dtd" in shlex.join(command)
    assert said in shlex.join(command)
    assert "no counterpart" not in capsys.readouterr().err


def test_other_heads_of_claps_trainer_are_refused():
    with pytest.raises(ValueError, match="INIT ClipA with CONSTRAINT none has no counterpart"):
        in_our_words(
            shlex.split(f"{HEAD} --trainer ADAPTER TRAINER.ADAPTER.INIT ClipA TRAINER.ADAPTER.CONSTRAINT none")
        )
