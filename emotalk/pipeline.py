"""One photograph, one recording and a wish become the frames of a talking video; owns the lazily loaded networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import audio, compose, image, landmarks
from .conditions import Feeling
from .config import PipelineConfig
from .device import check_device_name, is_out_of_memory, resolve_device
from .emotions import Emotion
from .errors import AudioError, ConfigError, DeviceError, InputError
from .expression import EmotionalFace, Expressions, Photograph
from .face import SOURCES, FaceFinder
from .life import Life, loudness_of
from .result import Result, Sound, Speech
from .scene import CloseUp, Scene
from .speech_motion import lips_closed, resample
from .tracks import Ramp, Track, read_track
from .weights import check_source, load_network

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .nets.edit import Edit

MOST_PIXELS = 1 << 24  # of a batch of frames: memory is bounded for large faces, too
MOST_WORKERS = 8  # cores that make frames; the encoder needs some, too

EmotionWish = str | Emotion | Mapping[Emotion, float]


class Pipeline:
    """Photographs and recordings to talking faces.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        weights: None for the shipped ones, a folder, a file or a published name.
        landmarks: "auto", "shipped" or "face-alignment".
        offline: never touch the network.
        seed: of everything random; equal seeds give equal frames.
        config: batch size and other matters of a run.

    Raises:
        DeviceError, WeightsError: if one of the first two does not exist.

    Example:
        >>> Pipeline().generate("face.jpg", "speech.wav", emotion="sad", intensity=3).save("sad.mp4")
    """

    def __init__(
        self,
        device: str = "auto",
        weights: str | Path | None = None,
        landmarks: str = "auto",
        offline: bool = False,
        seed: int = 0,
        config: PipelineConfig = PipelineConfig(),  # noqa: B008
    ) -> None:
        if landmarks not in SOURCES:
            raise ConfigError(f"unknown landmarks {landmarks!r} (known: {', '.join(SOURCES)})")
        self._device_name = check_device_name(device)
        self._weights = weights
        self._landmarks = landmarks
        self._offline = offline
        self.config = config
        self.seed = seed
        self._networks: dict[str, Any] = {}
        self._finder: FaceFinder | None = None
        check_source(weights)

    @cached_property
    def device(self) -> torch.device:
        """The device that the networks run on."""
        return resolve_device(self._device_name)

    @cached_property
    def half(self) -> bool:
        """Whether `refinement` computes in bfloat16; the networks that run once are exact."""
        return self.config.half and half_is_fast(self.device)

    def generate(
        self,
        face: str | Path | np.ndarray,
        speech: str | Path | Sound,
        *,
        emotion: EmotionWish = Emotion.NEUTRAL,
        intensity: float = 2.0,
        lower_emotion: EmotionWish | None = None,
        track: Track | Ramp | str | Path | None = None,
        still: bool = False,
        fps: float = 25,
        face_index: int = 1,
    ) -> Result:
        """A face that says the speech with the wished emotion.

        Args:
            face: a picture file, or uint8 RGB (H, W, 3).
            speech: a sound file, or samples and their rate.
            emotion: one of the eight or a synonym, or weights for several.
            intensity: 0 to 3.
            lower_emotion: of mouth and chin, when they shall feel something else than eyes and brows.
            track: what is felt when, or a file that says so; in place of one emotion for the whole recording.
            still: no blinks and no motion of brows and head.
            fps: frames per second of the video.
            face_index: which face of the picture, 1 is the largest.

        Raises:
            InputError, ConfigError, WeightsError, DeviceError: in one line, before anything slow begins.
        """
        feelings = as_track(track, emotion, intensity, lower_emotion)
        scenes, sound = self.scenes(face, speech, [feelings], still=still, fps=fps, face_index=face_index)
        return self._result(scenes[0], sound)

    def compare(
        self,
        face: str | Path | np.ndarray,
        speech: str | Path | Sound,
        feelings: Sequence[Feeling],
        labels: Sequence[str],
        *,
        still: bool = False,
        fps: float = 25,
        face_index: int = 1,
    ) -> Result:
        """The same speech with several feelings, side by side in one labelled video.

        Raises:
            InputError, ConfigError, WeightsError, DeviceError: as `generate`.
        """
        tracks = [Track.constant(feeling) for feeling in feelings]
        scenes, sound = self.scenes(face, speech, tracks, still=still, fps=fps, face_index=face_index)
        return Result.side_by_side([self._result(scene, sound) for scene in scenes], labels)

    def scenes(
        self,
        face: str | Path | np.ndarray,
        speech: str | Path | Sound,
        tracks: Sequence[Track | Ramp],
        *,
        still: bool = False,
        fps: float = 25,
        face_index: int = 1,
    ) -> tuple[list[Scene], Speech]:
        """One face and one recording with several tracks of feelings, everything that is the same done once.

        Raises:
            InputError, ConfigError, WeightsError, DeviceError: as `generate`.
        """
        audio.number_of_frames(1.0, fps)
        picture = read_picture(face)
        sound = Speech(speech)
        if sound.waveform.is_silent:
            name = speech if isinstance(speech, str | Path) else "the recording"
            raise AudioError(f"{name} is silent; give a recording of speech")
        timed = [track.over(sound.waveform.duration) for track in tracks]
        with memory_errors(), ThreadPoolExecutor(max_workers=1, thread_name_prefix="listen") as pool:
            listening = pool.submit(self.listen, sound.waveform, fps)  # librosa takes a second to begin: do both
            close_up = CloseUp(self.find(picture, face_index, name=name_of(face)))
            expressions = self.expressions(close_up.part)
            expressions.face(timed[0].feeling_at(0.5 / fps))
            moves = listening.result()
            life = Life.still(len(moves)) if still else self.enliven(sound.waveform, moves, fps)
        return [Scene(close_up, expressions, track, moves, life, float(fps)) for track in timed], sound

    def _result(self, scene: Scene, sound: Speech) -> Result:
        height, width = scene.close_up.photograph.picture.shape[:2]
        return Result(lambda: self.animate(scene), (width, height), scene.frame_count, scene.fps, sound)

    def emotional_face(
        self,
        photo: str | Path | np.ndarray,
        emotion: EmotionWish = Emotion.NEUTRAL,
        intensity: float = 2.0,
        *,
        lower_emotion: EmotionWish | None = None,
        face_index: int = 1,
    ) -> np.ndarray:
        """The photograph with the wished emotion: a still, (H, W, 3) uint8 RGB.

        Raises:
            InputError, ConfigError, WeightsError, DeviceError: as `generate`.
        """
        feeling = Feeling.of(emotion, intensity, lower_emotion)
        return next(self.emotional_faces(photo, [feeling], face_index=face_index))

    def emotional_faces(
        self, photo: str | Path | np.ndarray, feelings: Sequence[Feeling], *, face_index: int = 1
    ) -> Iterator[np.ndarray]:
        """The photograph with several feelings, one still after the other, each (H, W, 3) uint8 RGB.

        Raises:
            InputError, WeightsError, DeviceError: as `generate`.
        """
        picture = read_picture(photo)
        with memory_errors():
            close_up = CloseUp(self.find(picture, face_index, name=name_of(photo)))
            expressions = self.expressions(close_up.part)
            for feeling in feelings:
                yield close_up.whole(expressions.face(feeling).picture)

    def find_landmarks(self, picture: np.ndarray, face_index: int, name: str) -> np.ndarray:
        """Landmarks (68, 2) of one face of a picture.

        Raises:
            FaceError: if there is no such face.
        """
        if self._finder is None:
            self._finder = FaceFinder(self._landmarks, self._weights, self.device, self._offline)
        return self._finder.one(picture, face_index, name).landmarks

    def find(self, picture: np.ndarray, face_index: int = 1, *, name: str = "the picture") -> Photograph:
        """Find a face and bring its landmarks into the canonical crop.

        Raises:
            FaceError: if there is no such face.
        """
        found = self.find_landmarks(picture, face_index, name)
        crop = landmarks.crop_transform(found)
        return Photograph(picture, crop, landmarks.transform_points(crop, found))

    def expressions(self, photograph: Photograph) -> Expressions:
        """The faces a photograph can make: `neutral2emotion`, once per condition."""
        network = self.network("neutral2emotion")

        def answer(*inputs: np.ndarray) -> compose.NumpyEdit:
            return self._edits(network, *inputs)[0]

        sizes = int(network.config.size), int(self.network("refinement").config.size)
        return Expressions(photograph, answer, *sizes, self.config)

    def enliven(self, waveform: audio.Waveform, moves: np.ndarray, fps: float) -> Life:
        """Blinks, brows and head motion that fit the speech, from the seed.

        Shape:
            moves: (T, 37, 2), see `listen`.
        """
        loudness = loudness_of(waveform.samples, waveform.sample_rate)
        return Life.of(loudness, lips_closed(moves), len(moves), fps, self.seed)

    def listen(self, waveform: audio.Waveform, fps: float) -> np.ndarray:
        """What speech does to a lower face: `audio2landmark`, once per recording.

        Shape:
            returns: (T, 37, 2) float32 face units at `fps`, T = number_of_frames(duration, fps).
        """
        import torch

        network = self.network("audio2landmark")
        own_fps = float(network.config.fps)
        windows = audio.mfcc_windows(waveform.samples, own_fps)
        with torch.inference_mode():
            track = network.displacements(torch.from_numpy(windows)[None])[0]
        moves = track.float().cpu().numpy()
        return resample(moves, own_fps, fps, audio.number_of_frames(waveform.duration, fps))

    def animate(self, scene: Scene) -> Iterator[np.ndarray]:
        """The frames of a scene: `refinement`, once per frame.

        Every core works on a batch of its own, from the network to the finished pixels. Cores that share one batch
        wait for each other after every layer, which is slow as soon as anything else runs on the machine.

        Shape:
            yields: (H, W, 3) uint8 RGB, a new array each time.
        """
        import torch

        network = self.network("refinement")
        size = max(1, min(self.config.batch, MOST_PIXELS // scene.close_up.pixels))
        count = scene.frame_count
        todo = (range(start, min(start + size, count)) for start in range(0, count, size))
        threads = torch.get_num_threads()
        workers = min(threads, MOST_WORKERS) if self.device.type == "cpu" else 2
        pool = ThreadPoolExecutor(workers, "frames", initializer=torch.set_num_threads, initargs=(1,))
        try:
            with memory_errors():
                coming = deque(pool.submit(self._parts, network, scene, batch) for batch in islice(todo, workers + 1))
                while coming:
                    parts = coming.popleft().result()
                    coming.extend(pool.submit(self._parts, network, scene, batch) for batch in islice(todo, 1))
                    for part in parts:
                        yield scene.close_up.whole(part)
        finally:  # also when the reader stops early
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # it also is the default of threads that come later

    def _parts(self, network: nn.Module, scene: Scene, frames: Sequence[int]) -> list[np.ndarray]:
        """What moves, for one batch of frames."""
        faces = [scene.face(frame) for frame in frames]
        wanted = np.stack([scene.wanted(frame, face) for frame, face in zip(frames, faces, strict=True)])
        edits = self._speak(network, faces, wanted)
        return [scene.draw(*frame) for frame in zip(frames, faces, edits, strict=True)]

    def _speak(self, network: nn.Module, faces: Sequence[EmotionalFace], wanted: np.ndarray) -> list[compose.NumpyEdit]:
        faces = faces[:1] if all(face is faces[0] for face in faces) else faces  # one face serves the whole batch
        windows, resting = np.stack([face.window for face in faces]), np.stack([face.resting for face in faces])
        lines = compose.stack_lines(wanted, windows.shape[-1], landmarks.LOWER_CURVES, landmarks.LOWER_WINDOW)
        return self._edits(network, windows, resting, lines, half=self.half)

    def _edits(self, network: nn.Module, *arrays: np.ndarray, half: bool = False) -> list[compose.NumpyEdit]:
        """Run an image network on a batch of arrays; an array of one serves the whole batch."""
        import torch

        device = self.device
        batch = max(map(len, arrays))
        tensors = [torch.from_numpy(array).to(device).expand(batch, -1, *array.shape[2:]) for array in arrays]
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            edit: Edit = network(*tensors)
        return compose.numpy_edits(*(part.float().cpu().numpy() for part in edit))

    def network(self, name: str) -> Any:
        """A network with its weights, loaded when first needed.

        Raises:
            WeightsError: if its weights are missing or damaged.
        """
        if name not in self._networks:
            from .nets.inference import for_inference

            loaded = load_network(name, self._weights, offline=self._offline, device=self.device)
            self._networks[name] = for_inference(loaded, half=self.half and name == "refinement")
        return self._networks[name]


def as_track(
    track: Track | Ramp | str | Path | None, emotion: EmotionWish, intensity: float, lower_emotion: EmotionWish | None
) -> Track | Ramp:
    """What is felt when, from what may be asked for.

    Raises:
        ConfigError: if an emotion is unknown or the intensity out of range.
        InputError: if the track is unusable.
    """
    feeling = Feeling.of(emotion, intensity, lower_emotion)
    if track is None:
        return Track.constant(feeling)
    return read_track(track) if isinstance(track, str | Path) else track


def name_of(picture: str | Path | np.ndarray) -> str:
    """How messages call a picture."""
    return str(picture) if isinstance(picture, str | Path) else "the picture"


def read_picture(source: str | Path | np.ndarray) -> np.ndarray:
    """A picture file or array as (H, W, 3) uint8 RGB.

    Raises:
        InputError: if it cannot be read or the array is of another kind.
    """
    if isinstance(source, str | Path):
        return image.read_image(source)
    picture = np.asarray(source)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise InputError(f"the picture is {picture.dtype} of shape {picture.shape}; expected uint8 RGB (H, W, 3)")
    return np.ascontiguousarray(picture)


def half_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 is computed in hardware; where it is emulated it is slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn memory that runs out into one line.

    Raises:
        DeviceError: instead of the many errors that stand for it.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise DeviceError("out of memory; use --device cpu or a smaller picture") from error
        raise
