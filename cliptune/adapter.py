"""The whole machine: frozen CLIP, texts, prompt, head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cliptune.batch import Batch
from cliptune.calibration import Calibration, PredictionSets, softened
from cliptune.clip.model import CLIP
from cliptune.clip.pictures import fitted
from cliptune.clip.ports import EMPTY, Ports, TowerPorts
from cliptune.heads import FoldedClassifier, Head
from cliptune.noted import once
from cliptune.prompts import Prompt
from cliptune.prompts.base import MixedPrompt
from cliptune.reading import listed
from cliptune.texts import ClassSet, KnownTexts, Phrasing, TextBatch


@dataclass
class Outputs:
    """An adapter's answer to a batch.

    Args:
        logits: (B, C).
        similarity: (B, V, K), s · cosine.
        image_features: (B, V, D) unit. text_features: (I, K, D) unit, unless the ports keep lengths; I = 1 or B.
        image_embedding: (B, V, D), before unit norm.
        reference: the frozen CLIP's answer to the same batch, if it was asked for.
        texts: what the K similarities are about: class, view and set of each text.
        text_embedding: (I, K, D), before unit norm, if it was asked for.
        extras: by name, what `Adapter.extras` computed for this batch, if it was asked for.
    """

    logits: Tensor
    similarity: Tensor
    image_features: Tensor
    text_features: Tensor
    image_embedding: Tensor
    reference: Outputs | None = None
    texts: TextBatch | None = None
    text_embedding: Tensor | None = None
    extras: dict[str, Any] = field(default_factory=dict)


class Adapter(nn.Module):
    """A frozen CLIP with a prompt in front of it or inside it, and a head that counts the votes.

    Args:
        clip: frozen; never trained, never saved with the adapter.
        classes: names in label order.
        phrasing: how the classes are worded, with places for the prompt.
        prompt: what is learned and where it enters.
        head: similarity to logits.
        reference_phrasing: wording of the frozen reference; None for the phrasing of the classes' own template.
        known_texts: class texts that another CLIP encoded; they take the place of unprompted texts.
        chunk: views that pass the image tower together; more are encoded in pieces, and in training their inside is
            computed again for the backward pass, so that memory is bounded by the piece. None for all at once.
        corrects_drift: take off the prompted texts what is common to all of them, by `without_drift` from the texts of
            the reference. The classes asked about are all, trained or not.

    Attributes:
        built_as: method and options other than its defaults, where `cliptune.build` built it; "" otherwise.
        calibration: what held-out images said of answers about the trained classes; None until it is given.
        extras: name → `(adapter, batch) → context manager` around a forward pass whose objective needs that name. What
            it yields is told the ports and the answer, by `complete(ports, outputs)`, and put into the outputs.
    """

    def __init__(
        self,
        clip: CLIP,
        classes: ClassSet,
        phrasing: Phrasing,
        prompt: Prompt,
        head: Head,
        reference_phrasing: Phrasing | None = None,
        known_texts: KnownTexts | None = None,
        chunk: int | None = None,
        corrects_drift: bool = False,
    ) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise ValueError(f"Adapter: chunk must be at least 1 view, or None for all at once, got {chunk}.")
        self.chunk = chunk
        self.clip, self.prompt, self.head = clip, prompt, head
        self.phrasing, self.reference_phrasing = phrasing, reference_phrasing
        self.known_texts = known_texts
        self.corrects_drift = corrects_drift
        self.built_as = ""
        self.calibration: Calibration | None = None
        self.extras: dict[str, Callable[[Adapter, Batch], AbstractContextManager[Any]]] = {}
        self.trained_classes = classes
        self._set(classes, seen=True)

    # -- classes are data -------------------------------------------------------------------------------------

    def _set(self, classes: ClassSet, seen: bool) -> None:
        if not seen:
            for part, what in ((self.prompt, "prompt"), (self.head, "head")):
                if part.class_specific:
                    raise ValueError(
                        f"Adapter: the {what} ({type(part).__name__}) holds values for its {len(self.trained_classes)} "
                        f"training classes and cannot speak of other classes, such as {classes.names[0]!r}. "
                        "Use a method with a unified prompt for new classes."
                    )
        unknown = [] if self.known_texts is None else self.known_texts.missing(classes)
        if self.known_texts is not None and unknown:
            raise ValueError(
                f"Adapter: it keeps the texts of {len(self.known_texts.names)} classes and cannot speak of other "
                f"classes, such as {unknown[0]!r}. Build it with the names of all classes that it will be asked about."
            )
        self.classes, self.seen = classes, seen
        self._places = self._among_trained(classes)
        self.texts: TextBatch = self.phrasing(self.clip, classes)
        self._kept: dict[tuple[Any, ...], Tensor] = {}

    def _among_trained(self, classes: ClassSet) -> tuple[int, ...] | None:
        """Place of each class among the trained ones, −1 for one that is not; None for the very list of them."""
        known = self.trained_classes.names
        if classes.names == known:
            return None
        place = {name: i for i, name in reversed(list(enumerate(known)))}
        return tuple(place.get(name, -1) for name in classes.names)

    @property
    def descriptions_sha256(self) -> str | None:
        """Hex hash of the descriptions that the texts are drawn from; None if they are not drawn from any."""
        return self.classes.descriptions_sha256 if self.texts.set_of is not None else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What backbone, prompt, head and texts replaced, cut or guessed, a sentence each."""
        parts: list[tuple[str, ...]] = [getattr(part, "notes", ()) for part in self.modules() if part is not self]
        return once(*parts, self.texts.notes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes.names

    def set_classes(
        self,
        classes: Sequence[str] | ClassSet,
        *,
        template: str | None = None,
        seen: bool | None = None,
        truncate: bool = False,
    ) -> Adapter:
        """Ask about other classes from now on; nothing learned changes.

        Args:
            classes: names, in the order of the logits.
            template: hand-written sentence with `{}` for methods that use one; None keeps the present one.
                Descriptions are kept likewise, for the classes that have some.
            seen: are these classes trained ones? None decides by their names: all of them are, in any order; or for a
                prompt or head with values per class, they are the very list.
            truncate: cut names that are too long for the text tower, as is done anyhow if training did.
        Raises: ValueError if the prompt or the head is specific to its training classes, or a name is too long.
        """
        given = ClassSet.of(classes)
        if template is None and not isinstance(classes, ClassSet):
            template = self.classes.template
        given = given.with_template(template)
        if truncate or self.trained_classes.truncate:
            given = replace(given, truncate=True)
        if not given.descriptions:
            given = replace(given, descriptions=self.trained_classes.descriptions)
        self._set(given, seen=self._are_trained(given.names) if seen is None else seen)
        return self

    def _are_trained(self, names: tuple[str, ...]) -> bool:
        known = self.trained_classes.names
        apart = self.prompt.class_specific or self.head.class_specific
        return names == known if apart else set(names) <= set(known)

    def for_texts(self, classes: Sequence[str] | ClassSet, *, seen: bool | None = None) -> Adapter:
        """Another adapter that shares the learnables and speaks of other classes."""
        return copy.copy(self)._own_registers().set_classes(classes, seen=seen)

    def with_prompt(self, prompt: Prompt) -> Adapter:
        """Another adapter that has this prompt and shares everything else, also its mode and classes."""
        other = copy.copy(self)._own_registers()
        other.prompt = prompt
        return other

    def _own_registers(self) -> Adapter:
        # nn.Module keeps its children in dictionaries, which a shallow copy would share.
        self._modules = dict(self._modules)
        return self

    # -- forward ----------------------------------------------------------------------------------------------

    def forward(
        self,
        batch: Batch,
        *,
        text_features: Tensor | None = None,
        image_embedding: Tensor | None = None,
        needs: frozenset[str] = frozenset(),
    ) -> Outputs:
        """Answer a batch.

        Args:
            text_features: from `text_features()`, to encode the texts once per evaluation.
            image_embedding: (B, V, D) computed before, allowed where `image_is_frozen`.
            needs: "reference" adds the frozen CLIP's answer, "text_embedding" that of the texts; a name in `extras`
                adds what that computes.
        """
        with ExitStack() as stack:
            around = {name: stack.enter_context(self.extras[name](self, batch)) for name in needs & set(self.extras)}
            ports, out = self._answer(batch, text_features, image_embedding, needs)
        for extra in around.values():
            extra.complete(ports, out)
        return replace(out, extras=around) if around else out

    def _answer(
        self, batch: Batch, text_features: Tensor | None, image_embedding: Tensor | None, needs: frozenset[str]
    ) -> tuple[Ports, Outputs]:
        """The ports of this step, and the answer."""
        ports = self.prompt(seen=self.seen)  # once per step: both towers see one sample of the prompt
        if image_embedding is None:
            views = self.views(batch, ports.pixels)
            image_embedding = self._encode_views(views, ports.image)
            if ports.features is not None:
                image_embedding = ports.features(image_embedding)
        image = F.normalize(image_embedding, dim=-1)
        text_embedding = None
        if "text_embedding" in needs:
            text_embedding = self._embedded(ports, ports.text_given(image))
            text_features = self._undrifted(ports.compared(text_embedding))
        elif text_features is None:
            text_features = self._prompted(ports, ports.text_given(image))
        head = self.head_for(text_features)
        similarity = self.clip.similarity(image, text_features)
        logits = head(similarity, self.texts, image_embedding)
        untouched = ports.image.empty and ports.pixels is None and ports.features is None
        bare = image_embedding if untouched else None
        zero_shot = self.reference(batch, bare) if "reference" in needs else None
        seen = (logits, similarity, image, text_features, image_embedding)
        return ports, Outputs(*seen, zero_shot, self.texts, text_embedding)

    def head_for(self, text_features: Tensor) -> Head:
        """The head as it speaks of the present classes, having seen their unit text features (I, K, D)."""
        if not self.head.settled:
            self.head.settle(text_features, self.texts)
        return self.head if self._places is None else self.head.for_classes(text_features, self._places)

    def views(self, batch: Batch, pixels: Any) -> Tensor:
        """The views (B, V, 3, R, R) of a batch, normalised, as a `pixels` port or its absence makes them."""
        if pixels is not None:
            return pixels(batch.images, batch)
        images = batch.images
        if self.prompt.resolution is not None:  # a smaller picture, meant for a frame
            images = fitted(images, self.clip.image.resolution)
        return self.clip.normalise(images)[:, None]

    def _encode_views(self, views: Tensor, ports: TowerPorts) -> Tensor:
        """(B, V, 3, R, R) → (B, V, D), in pieces of at most `chunk` views (whole images, if an image has more)."""
        images, per_image = views.shape[:2]
        if self.chunk is None or images * per_image <= self.chunk:
            return self.clip.encode_image(views, ports)
        pieces = []
        for rows in torch.arange(images, device="cpu").split(max(1, self.chunk // per_image)):
            cut = slice(int(rows[0]), int(rows[-1]) + 1)
            own = ports.map(partial(_of_images, cut=cut, images=images))
            if torch.is_grad_enabled():
                pieces.append(checkpoint(self.clip.encode_image, views[cut], own, use_reentrant=False))
            else:
                pieces.append(self.clip.encode_image(views[cut], own))
        return torch.cat(pieces)

    def _encode(self, texts: TextBatch, ports: Any = EMPTY) -> Tensor:
        return texts.reduce(self.clip.encode_text(texts, ports))

    def forget(self) -> None:
        """Drop kept features of unprompted texts, after frozen weights have changed."""
        self._kept.clear()

    def _prompted(self, ports: Ports, text: TowerPorts) -> Tensor:
        """Unit features (I, K, D) of the texts under these ports; `text` are the text ports once the image is known."""
        if ports.text_features is not None:
            features = ports.compared(self._embedded(ports, text))
        else:
            features = self._fixed_features() if text.empty else self._encode(self.texts, text)
        return self._undrifted(features)

    def _undrifted(self, features: Tensor) -> Tensor:
        """Unit features of prompted texts (I, K, D), with their common drift taken off where that is asked for."""
        return without_drift(features, self.reference_texts()) if self.corrects_drift else features

    def _embedded(self, ports: Ports, text: TowerPorts) -> Tensor:
        """The same before unit norm. Raises: ValueError for texts that were given as unit features."""
        if self.known_texts is not None:
            raise ValueError(
                "Adapter: its texts were encoded by another CLIP and are kept as unit features, so that their "
                "embeddings before unit norm are not known. Use a method that encodes its own texts."
            )
        mean = partial(self._mean, text)
        embedding = self._keep("mean", mean) if text.empty else mean()
        return embedding if ports.text_features is None else ports.text_features(embedding)

    def _mean(self, ports: TowerPorts) -> Tensor:
        """Each class's text, (I, K, D), before unit norm."""
        return self.texts.mean(self.clip.encode_text(self.texts, ports))

    def _keep(self, what: str, encode: Callable[[], Tensor]) -> Tensor:
        """Features of texts that no learnable reaches: encoded once per class set, device and precision."""
        key = (what, self.clip.device, self.clip.dtype)
        if key not in self._kept:
            with torch.no_grad():
                self._kept[key] = encode()
        return self._kept[key]

    def _fixed_features(self) -> Tensor:
        """Unit features of the unprompted texts."""
        if self.known_texts is not None:
            return self.known_texts(self.classes)
        return self._keep("fixed", lambda: self._encode(self.texts))

    @torch.no_grad()
    def text_features(self) -> Tensor | None:
        """Unit features of the prompted texts (1, K, D), to be reused during an evaluation.

        None where the texts depend on the image.
        """
        ports = self.prompt(seen=self.seen)
        if ports.condition is not None:
            return None
        return self._prompted(ports, ports.text)

    @torch.no_grad()
    def text_lengths(self) -> Tensor:
        """Lengths (C,) that the embeddings of the unprompted class texts have before unit norm."""
        return self.texts.lengths(self.clip.encode_text(self.texts))[0]

    def reference_texts(self) -> Tensor:
        """Unit features (1, C, D) of the classes in the wording of the reference, which no learnable reaches."""
        from cliptune.texts import TemplatePhrasing

        phrasing = self.reference_phrasing or TemplatePhrasing()
        return self._keep("reference", lambda: self._encode(phrasing(self.clip, self.classes)))

    @torch.no_grad()
    def reference(self, batch: Batch, image_embedding: Tensor | None = None) -> Outputs:
        """The zero-shot answer of the frozen CLIP to the same images, or to their bare embedding (B, V, D)."""
        text = self.reference_texts()
        if image_embedding is None:
            image_embedding = batch.bare
        if image_embedding is None:
            image_embedding = self.clip.encode_image(self.views(batch, None))
        image = F.normalize(image_embedding, dim=-1)
        similarity = self.clip.similarity(image, text)
        return Outputs(similarity.mean(dim=1), similarity, image, text, image_embedding)

    @torch.no_grad()
    def logits(self, images: Tensor | Sequence[Any]) -> Tensor:
        """Logits (B, C) of images, in evaluation mode.

        Args:
            images: (B, 3, h, w) in [0, 1], of any size, or PIL images; resized and cropped as the CLIP's preprocessing
                says, as in testing.
        """
        from cliptune.images import as_batch

        with self.evaluating():
            pixels = as_batch(images, self.resolution, self.clip.preprocessing)
            return self(Batch.of(pixels.to(self.clip.device))).logits

    def probabilities(self, logits: Tensor, scores: Literal["softmax", "sigmoid"] = "softmax") -> Tensor:
        """Logits (B, C) as probabilities (B, C).

        Args:
            scores: "softmax" shares 1 among the classes, after `temperature`; "sigmoid" asks of each class alone
                whether the text fits the image, so that all may be near 0. It needs a CLIP trained so, and is its own
                as long as nothing learned moves the logits (SigLIP, arXiv:2303.15343, Eq. 1).
        Raises: ValueError for "sigmoid" on a CLIP without a bias of its logits.
        """
        if scores == "softmax":
            return softened(logits, self.temperature)
        if scores != "sigmoid":
            raise ValueError(f"Adapter: scores must be softmax or sigmoid, got {scores!r}.")
        if self.clip.logit_bias is None:
            raise ValueError(
                f"Adapter: sigmoid scores need a backbone that was trained with a sigmoid loss, as SigLIP is, and "
                f"{self.clip.name!r} has no logit_bias. Use softmax."
            )
        return (logits + self.clip.logit_bias.float()).sigmoid()

    @property
    def temperature(self) -> float:
        """T of the calibration; 1 without one, and where `uncalibrated` says why it does not hold."""
        return 1.0 if self.calibration is None or self.uncalibrated else self.calibration.temperature

    @property
    def uncalibrated(self) -> str:
        """Why nothing is promised of the present answers, as a sentence; "" where the calibration holds."""
        if self.calibration is None:
            return (
                "The adapter has not been calibrated, so nothing is known of how sure its answers may be. Calibrate "
                "its run: cliptune calibrate RUN."
            )
        if sorted(self.classes.names) != sorted(self.trained_classes.names):
            return (
                "The adapter was calibrated on images of the classes that it was trained on, and is asked about "
                "others, of which it has seen none: how often a set would hold the right one, nobody knows. Ask about "
                "the trained classes, or train on images of these."
            )
        if self.classes.template != self.trained_classes.template:
            return (
                f"The adapter was calibrated with the sentence {self.trained_classes.template!r} and is asked with "
                "another, which makes other answers. Leave the sentence as it was."
            )
        if any(isinstance(part, MixedPrompt) and part.weight is not None for part in self.prompt.modules()):
            return (
                "The adapter was calibrated with the weight of its own for two prompts and is asked with another, "
                "which makes other answers. Leave the weight out."
            )
        return ""

    @torch.no_grad()
    def predict_sets(self, images: Tensor | Sequence[Any], coverage: float = 0.9) -> PredictionSets:
        """Sets of classes that hold the right one for that share of images like those that the adapter was trained on.

        Args:
            images: as in `logits`.
            coverage: in (0, 1).
        Raises: ValueError if the adapter is not calibrated for the present classes, or cannot promise so much.
        """
        if self.calibration is None or self.uncalibrated:
            raise ValueError(self.uncalibrated)
        probabilities = self.probabilities(self.logits(images)).cpu()
        inside = self.calibration.sets(probabilities, coverage)
        return PredictionSets(inside, probabilities, coverage, self.class_names)

    @torch.no_grad()
    def fold(self) -> FoldedClassifier:
        """The texts, the head and the scale as one linear classifier per view of the image.

        It takes the unit image features (B, V, D) of this adapter; the pattern on the pixels stays where it is.
        Raises: ValueError where the answer is not linear in the image features: the head chooses among the texts per
            image, or the texts depend on the image.
        """
        with self.evaluating():
            ports = self.prompt(seen=self.seen)
            if ports.condition is not None:
                raise ValueError(
                    "Adapter: the texts depend on the image (a condition port), so there is no one linear classifier "
                    "to fold into. Fold a method with fixed texts."
                )
            text = self._prompted(ports, ports.text)
            head, side = self.head_for(text), self.resolution
            probe = Batch.of(torch.zeros(1, 3, side, side, device=self.clip.device))
            views = self.views(probe, ports.pixels).shape[1] * ports.image.read_outs
            prototypes = head.fold(text[0].double(), self.texts, views)
        return FoldedClassifier((self.clip.scale.double() * prototypes).float())

    @property
    def resolution(self) -> int:
        """Side in pixels of the images that this adapter wants: the tower's, unless a pattern frames smaller ones."""
        return self.prompt.resolution or self.clip.image.resolution

    @contextmanager
    def evaluating(self) -> Any:
        """Evaluation mode inside the block, the present mode after it."""
        before = self.training
        self.eval()
        try:
            yield self
        finally:
            self.train(before)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Adapter:
        # Called by `to`, `cuda` and the like. Token ids are data, not buffers, and have to follow.
        device = self.clip.device
        super()._apply(fn, recurse)
        if self.clip.device != device:
            self.texts = self.phrasing(self.clip, self.classes)
        return self

    # -- what no learnable reaches ----------------------------------------------------------------------------

    @property
    def image_is_frozen(self) -> bool:
        """True if no learnable reaches the image embedding, so that it may be computed once."""
        with torch.no_grad():
            ports = self.prompt(seen=self.seen)
        return ports.image.empty and ports.pixels is None and ports.features is None

    @property
    def text_is_frozen(self) -> bool:
        """True if no learnable reaches the text features."""
        with torch.no_grad():
            ports = self.prompt(seen=self.seen)
        return ports.text.empty and ports.condition is None and ports.text_features is None

    # -- learnables -------------------------------------------------------------------------------------------

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name → parameter that learns by gradient."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def _learning_parts(self) -> tuple[str, ...]:
        return ("prompt", "head") if self.known_texts is None else ("prompt", "head", "known_texts")

    def learnables(self) -> dict[str, Tensor]:
        """Everything that a run has to keep, kilobytes: parameters and buffers of prompt, head and known texts."""
        return {
            f"{part}.{name}": value.detach().cpu().contiguous().clone()
            for part in self._learning_parts
            for name, value in getattr(self, part).state_dict().items()
        }

    def load_learnables(self, tensors: dict[str, Tensor]) -> Adapter:
        """Put learnables back. Raises: ValueError naming missing, spare or misshapen ones; nothing changes then."""
        own = self.learnables()
        missing, spare = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
        if missing or spare:
            raise ValueError(
                "Adapter: these learnables are of another method or other options: missing "
                f"{listed(missing) or 'none'}, unexpected {listed(spare) or 'none'}. Build the adapter with the "
                "options it was trained with."
            )
        growing = {f"head.{name}" for name in self.head.growing}
        for name, value in own.items():
            free = 1 if name in growing and tensors[name].ndim == value.ndim else 0
            if tensors[name].shape[free:] != value.shape[free:]:
                raise ValueError(
                    f"Adapter: {name} must have shape {tuple(value.shape)}, got {tuple(tensors[name].shape)}. "
                    "The checkpoint was made for another backbone, class list or option."
                )
        if growing:
            self.head.grow({name: tensors[f"head.{name}"].shape for name in self.head.growing})
        for part in self._learning_parts:
            state = {k.removeprefix(part + "."): v for k, v in tensors.items() if k.startswith(part + ".")}
            getattr(self, part).load_state_dict(state)
        return self


def without_drift(features: Tensor, frozen: Tensor) -> Tensor:
    """t̃_c = unit(t_c − m) with m the mean over the classes of t_c − w_c: what moved all texts alike is undone.

    Args:
        features: t, (I, C, D) unit, of prompted texts. frozen: w, (1, C, D) unit, of the same classes.
    Returns: (I, C, D) unit. Of one class alone nothing but w is left.
    """
    return F.normalize(features - (features - frozen).mean(dim=1, keepdim=True), dim=-1)


def _of_images(leaf: Tensor, cut: slice, images: int) -> Tensor:
    """A port's leaf for some images: (B, V or 1, n, d) is cut, (n, d) and (1, …) speak to all."""
    return leaf[cut] if leaf.ndim > 3 and len(leaf) == images > 1 else leaf
