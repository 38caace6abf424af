from __future__ import annotations

import json
import sys
from pathlib import Path


def test_masks_by_grad_cam_then_training_with_them(cli, photos, backbone):
    made = cli("masks", photos, "--out", "masks", "--backbone", backbone)
    assert made.code == 0, made.err
    assert "Wrote 16 masks" in made.out
    assert "dapt_source=masks" in made.out
    assert "0 masks to masks; 16 were there" in cli("masks", photos, "--out", "masks", "--backbone", backbone).out
    command = ("fit", photos, "--method", "maple+dapt", "--backbone", backbone, "--shots", 1, "--set", "depth=2")
    fitted = cli(*command, "--set", "dapt_source=masks", "--epochs", 1, "--out", "run")
    assert fitted.code == 0, fitted.err
    assert json.loads(Path("run/result.json").read_text())["flags"]["external_models"] == ["masks: masks"]
    again = cli("masks", photos, "--out", "second", "--run", "run", "--backbone", backbone, "--shots", 1)
    assert again.code == 0, again.err
    assert "Wrote 4 masks" in again.out


def test_masks_by_a_command(cli, photos):
    code = "import sys, numpy as np; from PIL import Image; a = np.array(Image.open(sys.argv[1]).convert('L'));"
    code += "a[:] = 0; a[:5] = 255; Image.fromarray(a).save(sys.argv[2])"
    command = f'{sys.executable} -c "{code}" {{image}} {{mask}}'
    made = cli("masks", photos, "--out", "masks", "--by", "command", "--command", command, "--shots", 1)
    assert made.code == 0, made.err
    assert "Wrote 4 masks" in made.out
    failing = cli("masks", photos, "--out", "b", "--by", "command", "--command", "false {image} {mask}", "--shots", 1)
    assert failing.code == 2
    assert "ended with code 1" in failing.err
    assert "4 of 4 pictures have no mask" in failing.err


def test_masks_says_what_is_missing(cli, photos):
    assert "needs --command" in cli("masks", photos, "--out", "m", "--by", "command").err
    ignored = cli("masks", photos, "--out", "m", "--by", "sam", "--threshold", 0.3)
    assert "--threshold is for --by gradcam and clipseg; --by sam does not look at it" in ignored.err
    assert "--model is for --by clipseg and sam" in cli("masks", photos, "--out", "m", "--model", "x").err
    assert not Path("m").exists()
    assert "--by must be command" in cli("masks", photos, "--out", "m", "--command", "a {image} {mask}").err
