from dataclasses import replace

import pytest
import torch

from cliptune import methods
from cliptune.batch import Batch
from cliptune.objectives.decoupled import background_alignment, pull_push
from cliptune.saliency import grad_cam, saliency
from cliptune.training import fit
from cliptune.wrappers.dapt import BACKGROUND, FOOD, use_masks
from tests.conftest import CLASS_NAMES
from tests.training.support import NAMES, squares

LABELS = torch.tensor([0, 3, 1])
HALF = torch.zeros(3, 1, 32, 32)
HALF[..., :16] = 1


@pytest.fixture
def batch(images) -> Batch:
    return Batch.of(images, LABELS)


def halved(method, clip, **options):
    """A recipe whose foreground is the left half of every image."""
    recipe = methods.build(method, clip, CLASS_NAMES, **options)
    use_masks(recipe.adapter, lambda *given: HALF)
    return recipe


def loss_and_parts(recipe, batch, progress):
    stage = recipe.stages[0]
    return stage.objective(recipe.adapter(batch, needs=stage.objective.needs), batch, progress)


def test_pull_push_and_background_match_the_formulas():
    generator = torch.Generator().manual_seed(0)
    a, p, n = (torch.nn.functional.normalize(torch.randn(4, 6, generator=generator), dim=-1) for _ in range(3))
    expected = sum(max(0.0, (a[i] - p[i]).norm().item() - (a[i] - n[i]).norm().item() + 1.5) for i in range(4)) / 4
    assert pull_push(a, p, n).item() == pytest.approx(expected, rel=1e-4)
    scores = 3 * torch.randn(4, 5, generator=generator)
    expected = sum((row.logsumexp(0) - row.max()).item() for row in scores) / 4
    assert background_alignment(scores).item() == pytest.approx(expected, rel=1e-5)


def test_grad_cam_matches_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 1 + 4 + 3, 5, generator=generator).requires_grad_()
    weight = torch.randn(2, 8, 5, generator=generator)
    cam = grad_cam(rows, (rows * weight).sum(dim=(1, 2)), 4)
    for b in range(2):
        mean = weight[b, 1:5].mean(dim=0)
        for p in range(4):
            expected = max(0.0, float((rows[b, 1 + p].detach() * mean).sum()))
            assert cam[b, p // 2, p % 2].item() == pytest.approx(expected, abs=1e-5)
    large = saliency(cam.detach(), 8)
    assert large.shape == (2, 1, 8, 8)
    assert all(image.max() <= 1 for image in large)


def test_phases_follow_the_gate(tiny_clip, batch):
    recipe = halved("maple+dapt", tiny_clip)
    host, _ = recipe.stages[0].objective.host(recipe.adapter(batch), batch, 0.0)
    for epoch in range(10):
        loss, parts = loss_and_parts(recipe, batch, epoch / 10)
        expected = {"ce", "pull_push"} if epoch <= 6 else {"ce", "foreground", "background"}
        assert set(parts) == expected
        weights = {"ce": 1.0, "pull_push": 0.8, "foreground": 0.1, "background": 0.5}
        torch.testing.assert_close(loss, sum(weights[name] * value for name, value in parts.items()))
        torch.testing.assert_close(parts["ce"], host)


def test_parts_are_masked_after_normalising_and_share_one_sample_of_the_prompt(tiny_clip, batch):
    recipe = halved("maple+rlp+dapt", tiny_clip, rlp_dropout=0.5)
    adapter = recipe.adapter.train()
    out = adapter(batch, needs=frozenset({"decoupled"}))
    parts = out.extras["decoupled"]
    views = tiny_clip.normalise(batch.images) * (1 - HALF)
    expected = tiny_clip.encode_image(views[:, None], parts.ports.image)[:, 0]
    torch.testing.assert_close(parts.image_features("background"), torch.nn.functional.normalize(expected, dim=-1))
    again = tiny_clip.encode_image(tiny_clip.normalise(batch.images)[:, None], parts.ports.image)
    torch.testing.assert_close(out.image_embedding, again)


def test_foreground_takes_no_gradient_into_the_image(tiny_clip, batch):
    parts = halved("maple+dapt", tiny_clip).adapter(batch, needs=frozenset({"decoupled"})).extras["decoupled"]
    assert not parts.image_features("foreground").requires_grad
    assert parts.image_features("background", gradient=True).requires_grad
    assert parts.foreground_logits().requires_grad


def test_grad_cam_reads_the_view_that_is_trained_on_and_leaves_nothing(tiny_clip, batch):
    for host in ("maple", "coop", "promptsrc"):
        recipe = methods.build(f"{host}+dapt", tiny_clip, CLASS_NAMES)
        adapter = recipe.adapter
        adapter.train()
        out = adapter(batch, needs=recipe.stages[0].objective.needs)
        parts = out.extras["decoupled"]
        assert tiny_clip.image.watch is None
        rows = parts.rows.detach()
        x = {}
        tiny_clip.image.watch = lambda h, x=x: x.setdefault("rows", h)
        try:
            adapter(batch)
        finally:
            tiny_clip.image.watch = None
        torch.testing.assert_close(rows, x["rows"].detach())
        masks = parts.masks
        assert masks.shape == (3, 1, 32, 32)
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        assert all(0 < image.mean() < 1 for image in masks)
        assert all(p.grad is None for p in adapter.trainable().values())


def test_masks_of_an_image_do_not_depend_on_the_others(tiny_clip, batch):
    adapter = methods.build("maple+dapt", tiny_clip, CLASS_NAMES).adapter
    masks = adapter(batch, needs=frozenset({"decoupled"})).extras["decoupled"].masks
    one = Batch(batch.images[:1], batch.labels[:1], batch.index[:1])
    alone = adapter(one, needs=frozenset({"decoupled"})).extras["decoupled"].masks
    assert (masks[:1] != alone).float().mean() < 0.01


def test_evaluation_is_the_hosts(tiny_clip, images):
    plain = methods.build("maple", tiny_clip, CLASS_NAMES).adapter
    adapter = methods.build("maple+dapt", tiny_clip, CLASS_NAMES).adapter
    assert plain.learnables().keys() == adapter.learnables().keys()
    assert torch.equal(plain.logits(images), adapter.logits(images))


def test_terms_that_cannot_act_are_named_and_not_computed(tiny_clip, batch):
    text_only = halved("coop+dapt", tiny_clip)
    assert "pull-push cannot act" in text_only.remarks[0]
    assert "pull_push" not in loss_and_parts(text_only, batch, 0.0)[1]
    image_only = halved("vpt+dapt", tiny_clip)
    assert "foreground term cannot act" in image_only.remarks[0]
    assert set(loss_and_parts(image_only, batch, 0.9)[1]) == {"ce", "background"}
    assert not halved("ivlp+dapt", tiny_clip).remarks


@pytest.mark.parametrize("host", ["coop", "kgcoop"])
def test_a_background_term_without_a_gradient_is_named_and_not_computed(host, tiny_clip):
    deep = methods.build(f"{host}+dapt", tiny_clip, CLASS_NAMES, dapt_prompts="deep")
    assert deep.stages[0].objective.background == 0
    assert any("background term cannot act" in words for words in deep.remarks)
    full = methods.build(f"{host}+dapt", tiny_clip, CLASS_NAMES)
    assert full.stages[0].objective.background == 0.5
    assert not any("background" in words for words in full.remarks)


@pytest.mark.parametrize("host", ["coop", "vpt", "ivlp", "maple", "bias_tuning", "cocoop"])
def test_background_words_are_prompted_where_the_host_can_reach_them(host, tiny_clip, batch):
    recipe = halved(f"{host}+dapt", tiny_clip, dapt_words=3)
    parts = recipe.adapter(batch, needs=frozenset({"decoupled"})).extras["decoupled"]
    similarity = parts.background_similarity()
    assert similarity.shape == (3, 3)
    grads = torch.autograd.grad(similarity.sum(), list(recipe.adapter.trainable().values()), allow_unused=True)
    assert any(g is not None and g.any() for g in grads)


def test_deep_prompts_leave_the_words_of_the_first_block(tiny_clip, batch):
    """As released: a change of the first layer's tokens does not reach background texts, one of deeper layers does."""
    adapter = halved("ivlp+dapt", tiny_clip).adapter
    features = lambda: adapter(batch, needs=frozenset({"decoupled"})).extras["decoupled"].background_text_features(None)
    before = features()
    layers = adapter.prompt.parts["text"].layers
    layers[0].value.data.add_(1)
    assert torch.equal(features(), before)
    layers[1].value.data.add_(torch.randn_like(layers[1].value))
    assert not torch.equal(features(), before)


def test_before_dpc_the_terms_train_the_first_stage_only(tiny_clip, tmp_path):
    recipe = methods.build("maple+dpc+dapt", tiny_clip, NAMES, epochs=2, dpc_epochs=1, dpc_negatives=2)
    assert "decoupled" in recipe.stages[0].objective.needs
    assert not recipe.stages[1].objective.needs
    run = fit(recipe, squares(), tmp_path, progress="silent")
    assert [set(line["parts"]) for line in run.metrics] == [{"ce", "pull_push"}, {"ce", "pull_push"}, {"contrast"}]


def test_running_statistics_are_those_of_whole_images(tiny_clip, batch):
    """Of PromptKD's BatchNorm: evaluation sees no masked image."""
    states = []
    for method in ("promptkd", "promptkd+dapt"):
        recipe = methods.build(method, tiny_clip, CLASS_NAMES)
        if "dapt" in method:
            use_masks(recipe.adapter, lambda *given: HALF)
        recipe.adapter.train()
        _, parts = loss_and_parts(recipe, batch, 0.0)
        states.append({name: v for name, v in recipe.adapter.learnables().items() if ".map.1." in name})
    assert "pull_push" in parts
    assert states[0].keys() == states[1].keys()
    assert {name.rpartition(".")[2] for name in states[0]} >= {"running_mean", "running_var", "num_batches_tracked"}
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert recipe.adapter.prompt.parts["projector"].map[1].track_running_stats


def test_pull_push_stays_in_the_second_stage_where_asked_for(tiny_clip, batch):
    """On the images of the batch, whose masks are found among those of all, and not on their negatives."""
    recipe = halved("maple+dapt+dpc", tiny_clip, dpc_pull_push=True, dapt_pull=0.6, dapt_margin=1.0)
    adapter, stage = recipe.adapter, recipe.stages[1]
    for begin in stage.before:
        begin(adapter)
    order = torch.tensor([0, 2, 1])  # the middle one is a negative of the first
    filled = replace(batch[order], added=torch.tensor([False, True, False]))
    out = adapter.train()(filled, needs=stage.objective.needs)
    loss, parts = stage.objective(out, filled, 0.99)
    assert set(parts) == {"contrast", "pull_push"}
    torch.testing.assert_close(loss, parts["contrast"] + 0.6 * parts["pull_push"])
    views, image_tokens = tiny_clip.normalise(filled.images[[0, 2]]), adapter.prompt().image
    unit = lambda x: torch.nn.functional.normalize(tiny_clip.encode_image(x[:, None], image_tokens)[:, 0], dim=-1)
    half = HALF[:2]
    torch.testing.assert_close(
        parts["pull_push"], pull_push(unit(views), unit(views * half), unit(views * (1 - half)), 1.0)
    )
    gradient = torch.autograd.grad(parts["pull_push"], list(adapter.trainable().values()))
    assert all(g.any() for g in gradient)


def test_pull_push_in_the_second_stage_needs_a_term_that_acts(tiny_clip):
    for method, sentence in (("maple+dpc", "dapt is not joined"), ("coop+dapt+dpc", "cannot act on this host")):
        with pytest.raises(ValueError, match=sentence):
            methods.build(method, tiny_clip, CLASS_NAMES, dpc_pull_push=True)


def test_bad_masks_and_options_are_explained(tiny_clip, batch, tiny_resnet):
    recipe = methods.build("maple+dapt", tiny_clip, CLASS_NAMES)
    for masks, sentence in (
        (torch.ones(3, 1, 16, 16), r"size of the views they are for, \(3, 1, 32, 32\), got \(3, 1, 16, 16\)"),
        (HALF * 0.5, "must hold 0"),
    ):
        use_masks(recipe.adapter, lambda *given, masks=masks: masks)
        with pytest.raises(ValueError, match=sentence):
            loss_and_parts(recipe, batch, 0.0)
    build = lambda method="maple+dapt", clip=tiny_clip, **options: methods.build(method, clip, CLASS_NAMES, **options)
    with pytest.raises(ValueError, match="between 1 and 25"):
        build(dapt_words=len(BACKGROUND) + 1)
    with pytest.raises(ValueError, match="dapt_gate"):
        build(dapt_gate=1.5)
    with pytest.raises(ValueError, match="threshold"):
        build(dapt_threshold=0.0)
    with pytest.raises(ValueError, match="at least 0"):
        build(dapt_pull=-1.0)
    with pytest.raises(ValueError, match="dapt_pull must be a number"):
        build(dapt_pull=float("nan"))
    for ignored in ({"dapt_threshold": 0.4}, {"dapt_per_batch": True}):
        with pytest.raises(ValueError, match="is for masks by Grad-CAM, and dapt_source='exact'"):
            build(dapt_source="exact", **ignored)
    with pytest.raises(ValueError, match="Grad-CAM masks need the patches of a ViT"):
        build("coop+dapt", tiny_resnet)
    with pytest.raises(ValueError, match="takes no gradient steps"):
        build("zeroshot+dapt")
    with pytest.raises(ValueError, match="was not built with dapt"):
        use_masks(build("coop").adapter, lambda *given: HALF)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_image_that_is_all_or_no_foreground_still_trains(value, tiny_clip, batch):
    recipe = methods.build("maple+dapt", tiny_clip, CLASS_NAMES, dapt_together=True)
    use_masks(recipe.adapter, lambda *given: torch.full((3, 1, 32, 32), value))
    loss, _ = loss_and_parts(recipe, batch, 0.0)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in recipe.adapter.trainable().values())


def test_own_background_words_stay_with_the_run_when_the_file_is_gone(tiny_clip, batch, tmp_path):
    words = [f"place {i}" for i in range(40)]
    file = tmp_path / "words.txt"
    file.write_text("# seen behind our parts\n\n" + "\n".join([*words, "  place   7 "]))
    recipe = methods.build("maple+dapt", tiny_clip, CLASS_NAMES, dapt_words_file=str(file))
    source = recipe.adapter.extras["decoupled"]
    assert source.names == tuple(words)
    assert recipe.config["dapt_words_file"] is None
    parts = recipe.adapter(batch, needs=frozenset({"decoupled"})).extras["decoupled"]
    assert parts.background_similarity().shape == (3, 40)
    run = fit(
        methods.build("maple+dapt", tiny_clip, NAMES, epochs=1, dapt_words_file=str(file), dapt_food=True),
        squares(),
        tmp_path / "run",
        progress="silent",
    )
    file.unlink()
    kept = run.options["dapt_own_words"]
    again = methods.build("maple+dapt", tiny_clip, NAMES, dapt_own_words=kept, dapt_food=True)
    assert again.adapter.extras["decoupled"].names == (*words, *FOOD)


def test_words_that_cannot_be_are_sentences(tiny_clip, tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, words in (("empty", "no word in it"), ("binary", "no UTF-8"), ("absent", "There is no file")):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            methods.build("maple+dapt", tiny_clip, CLASS_NAMES, dapt_words_file=str(tmp_path / f"{name}.txt"))
    for options, words in (
        ({"dapt_own_words": ("sea",), "dapt_words": 5}, "counts the paper's words"),
        ({"dapt_own_words": ("sea",), "dapt_words_file": "words.txt"}, "Give one of them"),
        ({"dapt_erase": 1.0}, "at least 0 and below 1"),
    ):
        with pytest.raises(ValueError, match=words):
            methods.build("maple+dapt", tiny_clip, CLASS_NAMES, **options)


def test_erasing_takes_whole_patches_of_the_object_and_never_all(tiny_clip, batch):
    side = tiny_clip.image.patch
    for source in ("gradcam", "exact"):
        whole, some = (
            methods.build("maple+dapt", tiny_clip, CLASS_NAMES, dapt_source=source, dapt_erase=share)
            for share in (0.0, 0.5)
        )
        given = replace(batch, masks=HALF)
        masks = [r.adapter(given, needs=frozenset({"decoupled"})).extras["decoupled"].masks for r in (whole, some)]
        assert (masks[1] <= masks[0]).all()
        lost = (masks[0] - masks[1]).unfold(2, side, side).unfold(3, side, side).flatten(4).amax(-1)
        left = masks[1].unfold(2, side, side).unfold(3, side, side).flatten(4).amax(-1)
        assert not (lost * left).any()  # a cell loses its object or keeps it
        assert left.flatten(1).any(dim=1).all()
    torch.manual_seed(0)
    shares = [some.adapter(given, needs=frozenset({"decoupled"})).extras["decoupled"].masks.mean() for _ in range(40)]
    assert float(torch.stack(shares).mean()) == pytest.approx(0.25, abs=0.05)  # half of the half
