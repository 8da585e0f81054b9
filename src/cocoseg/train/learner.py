"""What changes during training: the model with its optimizer, and the progress of the run."""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from cocoseg.core.errors import CocosegError
from cocoseg.model.architectures import build_model, check_model, encoder_of, with_synchronized_norm
from cocoseg.model.encoders import normalization
from cocoseg.model.own_code import own_hashes, own_model
from cocoseg.model.params import is_own
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import InitialWeights, ModelInfo, TrainingData, library_versions, output_channels
from cocoseg.scores.confusion import resolved_score
from cocoseg.train.initial_weights import read_initial_model, start_from, start_line
from cocoseg.train.losses import OwnLoss, resolved_loss
from cocoseg.train.optimizer import averaged, make_optimizer
from cocoseg.train.own_parts import check_own_model, own_loss
from cocoseg.train.params import LossName, TrainParams
from cocoseg.train.run_data import RunData
from cocoseg.train.selection import EpochScore


class Progress:
    """How far a run has come."""

    def __init__(self) -> None:
        self.epochs = 0  # finished
        self.best: ModelInfo | None = None  # of the epoch with the highest score in validation so far
        self.best_score: EpochScore | None = None
        self.waited = 0  # epochs since the best that predicted foreground
        self.saved_sha256 = ""  # of its weights, once they are on disk
        self.train_seconds: list[float] = []
        self.val_seconds: list[float] = []

    def out_of_patience(self, patience: int | None) -> bool:
        """Return whether the score has not improved for `patience` epochs.

        An epoch that calls everything background does not count: learning to find a small foreground takes its time.
        """
        return patience is not None and self.waited >= patience

    def count_epoch(self, train_seconds: float, val_seconds: float) -> None:
        """Count a finished epoch and the time it took."""
        self.epochs += 1
        self.train_seconds.append(train_seconds)
        self.val_seconds.append(val_seconds)

    def judge_epoch(self, learner: "Learner", judged: EpochScore) -> ModelInfo:
        """Return the best epoch so far: the last if it ranks higher than all before, else the same as before."""
        if self.best is None or self.best_score is None or judged.rank > self.best_score.rank:
            self.best, self.best_score, self.waited = learner.info(self.epochs, judged), judged, 0
        elif judged.finds_foreground:
            self.waited += 1
        return self.best


class Learner:
    """The model, its optimizer, and the average of its weights if `ema_decay` asks for one.

    `model` is the plain module. `network` wraps it for training, compiled and across processes as the run asks.
    """

    def __init__(self, params: TrainParams, data: RunData, fabric: Fabric) -> None:
        """Build the model and its optimizer on the devices of `fabric`.

        Raises `CocosegError` if the model cannot be built, or does not work with this image or batch size.
        """
        mapping, class_weights = data.mapping, data.class_weights
        self.fabric = fabric
        self.params = params
        self.classes = mapping.classes
        self._data = data
        self.binary = mapping.task == "binary"
        self.primary_score = resolved_score(params.primary_score, mapping.task)
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, device=fabric.device)
        channels = output_channels(mapping.task, mapping.classes)
        model = self._first_model(params, channels)
        self.loss = self._chosen_loss(channels)
        synchronized = fabric.world_size > 1 and fabric.device.type == "cuda"  # BatchNorm, over all processes
        smallest_batch = params.batch_size // (1 if synchronized else fabric.world_size)
        if is_own(params.arch):
            check_own_model(
                model,
                params.arch,
                channels,
                params.image_size_px,
                smallest_batch,
                fabric.device,
                shared=fabric.world_size > 1,
                any_size=params.resize == "short_side",
            )
        else:
            check_model(model, params.image_size_px, smallest_batch)
        if synchronized:
            model = with_synchronized_norm(model)
        self.model = model.to(memory_format=torch.channels_last)
        self._encoder = self._treated_encoder()
        self._trained_encoder = [one for one in self._encoder.parameters() if one.requires_grad]
        self._frozen: list[nn.Parameter] = []
        self._optimizer = make_optimizer(
            model, params.optimizer, params.lr, params.weight_decay, self._encoder, params.encoder_lr_factor
        )
        trained: Any = torch.compile(self.model) if params.compile else self.model
        self.network, self.optimizer = fabric.setup(trained, self._optimizer)
        self.average: AveragedModel | None = None
        if params.ema_decay is not None:
            self.average = averaged(self.model, params.ema_decay)

    def _first_model(self, params: TrainParams, channels: int) -> nn.Module:
        """Return the model with its first weights; set `initial` to where they are from, and `preprocessing`."""
        self.initial: InitialWeights | None = None
        found = read_initial_model(params.initial_weights)
        pretrained = "none" if found else params.pretrained
        place = Preprocessing(image_size_px=params.image_size_px, resize=params.resize)

        def build(channels: int) -> nn.Module:
            if is_own(params.arch):
                return own_model(params.arch, channels, params.image_size_px)
            return build_model(params.arch, params.encoder, pretrained, channels, place.square_px)

        model = build(channels)
        mean, std = normalization(params.arch, params.encoder, pretrained)
        own = self.preprocessing = msgspec.structs.replace(place, mean=mean, std=std)
        if found:
            self.initial, anew = start_from(model, found, params.arch, params.encoder, self._data.mapping, build)
            if found.normalization:
                mean, std = found.normalization
                self.preprocessing = msgspec.structs.replace(own, mean=mean, std=std)
            if self.fabric.is_global_zero:
                tqdm.write(f"train: {start_line(found, self.initial, anew, params.pretrained, own)}", file=sys.stderr)
        return model

    def _treated_encoder(self) -> nn.Module:
        """Return the encoder, if the run treats it in a way of its own. Raises `CocosegError` if it cannot."""
        params, encoder = self.params, encoder_of(self.model)
        if params.encoder_lr_factor == 1 and not params.freeze_encoder_epochs:
            return nn.Module()
        if encoder is None:
            raise CocosegError(
                f"params.yaml: arch {params.arch} has no encoder; expected encoder_lr_factor: 1 and "
                "freeze_encoder_epochs: 0, or another arch"
            )
        random = self.initial is None and params.pretrained == "none" and not is_own(params.arch)
        if params.freeze_encoder_epochs and random:
            raise CocosegError(
                f"params.yaml: freeze_encoder_epochs is {params.freeze_encoder_epochs}, but the encoder starts from "
                "random weights; expected 0, or pretrained or initial_weights"
            )
        return encoder

    def start_epoch(self, epoch: int) -> None:
        """Switch to training, but for an encoder that is frozen in `epoch`, counted from 0."""
        self.network.train()
        frozen = epoch < self.params.freeze_encoder_epochs
        if frozen:
            self._encoder.eval()  # else BatchNorm's statistics would move on
        self._frozen = self._trained_encoder if frozen else []
        if self.fabric.world_size == 1:  # saves time; with several, each would wait for gradients that never come
            for parameter in self._trained_encoder:
                parameter.requires_grad_(not frozen)

    def _chosen_loss(self, channels: int) -> LossName | OwnLoss:
        params = self.params
        if is_own(params.loss):
            return own_loss(params.loss, channels, params.image_size_px, self.fabric.device)
        return resolved_loss(params.loss)

    def divide_gradients(self, divisor: float) -> None:
        """Divide the gradients by the sum of the weights that they were added up with, unless it is 1, or 0."""
        for parameter in self.model.parameters() if divisor not in (0, 1) else ():
            if parameter.grad is not None:
                parameter.grad /= divisor

    def step(self) -> None:
        """Update the weights from their gradients, then clear the gradients."""
        for parameter in self._frozen:
            parameter.grad = None
        if self.params.clip_grad_norm is not None:
            norm = self.params.clip_grad_norm
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)

    @property
    def validated_model(self) -> nn.Module:
        """The model that is validated and saved: the average of weights if there is one."""
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs: weights, their average, and the state of the optimizer and of the precision."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Return to an earlier `state()`."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["precision"]:
            self.fabric.strategy.precision.load_state_dict(state["precision"])

    def info(self, epoch: int, judged: EpochScore) -> ModelInfo:
        """Return what `model.json` says of the weights after `epoch`, counted from 1, with this score in validation."""
        data, mapping = self._data, self._data.mapping
        return ModelInfo(
            arch=self.params.arch,
            encoder="" if is_own(self.params.arch) else self.params.encoder,
            task=mapping.task,
            classes=mapping.classes,
            categories=mapping.categories,
            preprocessing=self.preprocessing,
            epoch=epoch,
            val_miou=judged.miou,
            primary_score=judged.name,
            val_score=judged.value,
            best_threshold=judged.best_threshold,
            params=msgspec.to_builtins(self.params),
            initial=self.initial,
            data=TrainingData(train_images=len(data.train), val_images=len(data.val), fingerprint=data.fingerprint),
            versions=library_versions(),
            own_code=own_hashes(),
        )
