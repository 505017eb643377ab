"""Motion for speech that nobody filmed: what phonemes look like, learnt from a filmed speaker, applied to any text.

A small network turns what is visible of each phoneme, half a second around a frame, into the lower face's motion, so
coarticulation is learnt and not assumed. It sees phonemes, never sound, and carries over to other voices and languages.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from ..audio import SAMPLE_RATE, mfcc, read_audio
from ..config import AudioConfig
from ..landmarks import LOWER_POINTS, Basis
from ..speech_corpus import FPS, FRAME_SAMPLES, Clip
from .voices import FEATURES, VARIANTS, Segment, feature_track, speak

REACH = 7  # frames of phonemes seen on either side
CLOSURE = 0.055  # seconds that lips or tongue are shut before the burst, where espeak-ng marks a plosive
BURST = 0.012
LETTERS = {letter: letter for letter in "bcdefghijklmnopqrstuvxyz"} | {"a": "ay", "z": "zed"}
PLOSIVES = "pbtdkgɡ"

TEXTS: Mapping[str, Sequence[str]] = {
    "en": (
        "Bob put my purple umbrella by the open window before Mum came home.",
        "We should move five very heavy wooden boxes over the bridge this afternoon.",
        "Maybe people prefer simple problems, but most of them become complex when you look closer.",
        "The quick brown fox jumps over the lazy dog, while pale moonlight falls upon the beach.",
        "How are you today? I am happy to be back, thank you very much for the beautiful flowers!",
        "She measured the pressure, checked both charts and joked about her usual job.",
    ),
    "gmw/en-US": (
        "Good morning everybody, and welcome back to our program about weather and food.",
        "Papa bought a big map; mama wrapped the apple pie in brown paper.",
        "I would have gone with him, however, nobody was able to remember where the river begins.",
        "Please give me a moment, I have to move my car from the parking lot before five.",
    ),
    "de": (
        "Guten Morgen, ich möchte bitte zwei Brötchen und einen warmen Apfelkuchen mitnehmen.",
        "Am Abend gehen wir über die Brücke, um den schönen Mond über dem Fluss zu sehen.",
        "Papa kaufte ein blaues Fahrrad, aber Mama bleibt lieber bei ihrem alten Pferd.",
    ),
    "fr": (
        "Bonjour, je voudrais un peu de pain, du beurre et une bouteille de bon vin.",
        "Nous avons vu un beau bateau blanc qui passait lentement sous le vieux pont.",
        "Maman prépare un repas simple pendant que papa parle avec mon petit frère.",
    ),
    "es": (
        "Buenos días, me gustaría comprar pan, aceite y un poco de fruta para mi abuela.",
        "Mi primo vive cerca de la playa y trabaja en un barco pequeño de pesca.",
    ),
    "it": (
        "Buongiorno, vorrei una bottiglia di vino e un bel pezzo di formaggio, per favore.",
        "La mamma prepara il pane, il babbo beve un bicchiere di acqua fredda.",
    ),
    "pt": ("Bom dia, a minha família mora perto do porto e gosta muito de peixe e de bolo.",),
    "nl": ("Goedemorgen, mijn buurman brengt bijna iedere week een grote bos bloemen mee.",),
    "pl": ("Dzień dobry, poproszę bilet do Warszawy i małą kawę bez mleka.",),
    "ru": ("Доброе утро, мама купила большой белый хлеб, молоко и пять спелых яблок.",),
    "sv": ("God morgon, min bror bor på en liten ö och har en gammal blå båt.",),
    "fi": ("Hyvää huomenta, pieni poika poimi punaisia puolukoita metsän reunalla.",),
    "tr": ("Günaydın, babam bu sabah pazardan peynir, ekmek ve büyük bir karpuz aldı.",),
    "ja": ("おはようございます。わたしはまいあさ、パンとたまごをたべます。",),
    "el": ("Καλημέρα, η μητέρα μου αγόρασε ψωμί, μέλι και φρέσκο ψάρι από την αγορά.",),
    "id": ("Selamat pagi, ibu membeli buah mangga, pisang, dan beberapa botol air minum.",),
    "cs": ("Dobré ráno, babička peče bílý chléb a maminka vaří polévku pro malého bratra.",),
    "hu": ("Jó reggelt, a nagymama meleg kenyeret és finom almás pitét süt ebédre.",),
}  # one or more sentences per language, for the sounds they hold; numbers are added to each


# Syllables of words that do not exist: real sentences are too few, and a network would learn their words by heart.
ONSETS = (
    *"bpmfvwtdnlszrkghj",
    *"bpmfvw",
    "",
    "sh",
    "ch",
    "th",
    "br",
    "pl",
    "fl",
    "st",
    "tr",
    "kr",
    "sp",
    "bl",
    "dr",
    "sm",
)
NUCLEI = (*"aeiou", *"aeiou", "ee", "oo", "ai", "ou", "ei", "ar", "or", "oa")
CODAS = ("", "", "", *"nmtslpkrbf", "sh", "nt", "st", "mp", "lf")
OTHER_SCRIPTS = ("ru", "ja", "el")


def invented_words(count: int, generator: np.random.Generator) -> list[str]:
    """Pronounceable words that no dictionary holds; each language reads them its own way."""

    def pick(parts: Sequence[str]) -> str:
        return parts[int(generator.integers(len(parts)))]

    return [
        "".join(
            pick(ONSETS) + pick(NUCLEI) + pick(CODAS) for _ in range(generator.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
        )
        for _ in range(count)
    ]


class VisemeNet(nn.Module):
    """Phoneme features around a frame -> PCA coefficients."""

    def __init__(self, components: int, hidden: int = 64) -> None:
        super().__init__()
        size = (2 * REACH + 1) * len(FEATURES)
        self.layers = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(size, hidden), nn.GELU(), nn.Dropout(0.2), nn.Linear(hidden, components)
        )

    def forward(self, track: Tensor) -> Tensor:
        """Tracks (T, features) -> (T, components)."""
        padded = torch.cat([track[:1].expand(REACH, -1), track, track[-1:].expand(REACH, -1)])
        return self.layers(padded.unfold(0, 2 * REACH + 1, 1).flatten(1))  # type: ignore[no-any-return]


def with_closures(segments: Sequence[Segment]) -> list[Segment]:
    """Plosives begin with their closure, which espeak-ng counts to the sound before, and end soon after the burst."""
    result: list[Segment] = []
    for segment in segments:
        if segment.phoneme[:1] in PLOSIVES and segment.phoneme:
            voiced_inside = segment.phoneme[0] in "bdgɡ" and segment.end - segment.start > CLOSURE
            if not voiced_inside:
                start = segment.start - CLOSURE
                end = min(segment.end, segment.start + BURST)
                if result:
                    last = result[-1]
                    start = max(start, last.start + 0.3 * (last.end - last.start))
                    result[-1] = Segment(last.phoneme, last.start, start)
                result.append(Segment(segment.phoneme, max(start, 0.0), end))
                if segment.end > end:
                    result.append(Segment("h", end, segment.end))
                continue
        result.append(segment)
    return result


@cache
def _word(word: str) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """MFCC (L, 14) of a GRID word in a synthetic voice and its phonemes."""
    samples, rate, segments = speak(LETTERS.get(word, word), "en", words_per_minute=150)
    return _coefficients(librosa.resample(samples, orig_sr=rate, target_sr=SAMPLE_RATE)), tuple(segments)


def _coefficients(samples: np.ndarray) -> np.ndarray:
    config = AudioConfig()
    return mfcc(samples)[config.context : -config.context, : config.coefficients]


def align(segments: Sequence[Segment], source: np.ndarray, target: np.ndarray, offset: float = 0.0) -> list[Segment]:
    """Carry phoneme times from one recording to another by dynamic time warping of MFCC rows; `offset` is added."""
    hop = AudioConfig().hop_seconds
    # no more than twice as fast or slow from row to row, where the lengths allow it
    steps = np.array([[1, 1], [1, 2], [2, 1]]) if 0.55 < len(source) / len(target) < 1.8 else None
    _, path = librosa.sequence.dtw(source.T, target.T, step_sizes_sigma=steps)
    path = path[::-1]
    rows = np.arange(len(source))
    first = np.array([path[path[:, 0] <= row][-1, 1] for row in rows], float)

    def moved(time: float) -> float:
        return float(np.interp(time / hop, np.append(rows, len(source)), np.append(first, len(target)))) * hop + offset

    return [Segment(s.phoneme, moved(s.start), moved(s.end)) for s in segments]


def align_words(clip: Clip) -> list[Segment]:
    """Phonemes of a clip whose words are known, with their times."""
    rows = _coefficients(clip.samples.astype(np.float32) / 32768)
    hop = AudioConfig().hop_seconds
    result: list[Segment] = []
    for start, end, word in clip.words:
        source, segments = _word(word)
        spoken = [s for s in segments if s.phoneme]
        if not spoken:
            continue
        last = min(len(source), round(spoken[-1].end / hop))
        target = rows[round(start / hop) : max(round(end / hop), round(start / hop) + 2)]
        result += align(spoken, source[:last], target, start)
    return result


def fit_visemes(clips: Sequence[Clip], basis: Basis, *, steps: int = 3000, seed: int = 0) -> VisemeNet:
    """Learn what phonemes look like from clips with known words."""
    torch.manual_seed(seed)
    tracks, targets, weights = [], [], []
    for clip in clips:
        frames = len(clip.motion)
        tracks.append(torch.from_numpy(feature_track(with_closures(align_words(clip)), frames, FPS)))
        targets.append(torch.from_numpy(basis.encode(clip.motion).astype(np.float32)))
        weights.append(torch.from_numpy(clip.weight))
    network = VisemeNet(targets[0].shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    scale = torch.from_numpy(basis.scale / basis.scale.max())
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        picked = generator.integers(0, len(tracks), 8)
        made = torch.cat([network(tracks[i]) for i in picked])
        target, weight = torch.cat([targets[i] for i in picked]), torch.cat([weights[i] for i in picked])
        loss = (((made - target) * scale).square().sum(1) * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def motion_of(network: VisemeNet, basis: Basis, segments: Sequence[Segment], frames: int) -> np.ndarray:
    """Motion (frames, 37, 2) of spoken phonemes; lips meet at p, b and m, and rest in long pauses."""
    track = feature_track(with_closures(segments), frames, FPS)
    motion = basis.decode(network(torch.from_numpy(track)).numpy()).astype(np.float32)
    shut = np.clip(1.6 * track[:, FEATURES.index("bilabial")], 0, 1)
    upper, lower = [30, 31, 32], [36, 35, 34]
    gap = np.maximum((motion[:, lower, 1] - motion[:, upper, 1]).mean(1), 0) * shut
    lips = np.zeros(LOWER_POINTS, np.float32)
    lips[[34, 35, 36, 24, 25, 26, 27, 28]] = -0.75  # the lower lip rises by three quarters of the gap
    lips[[30, 31, 32, 18, 19, 20, 21, 22]] = 0.25
    motion[..., 1] += lips * gap[:, None]
    return motion


def synthetic_clip(network: VisemeNet, basis: Basis, generator: np.random.Generator) -> Clip:
    """A random sentence in a random language and voice, with the motion it would have."""
    languages = list(TEXTS)
    shares = np.array([6.0 if name in ("en", "gmw/en-US") else 1.0 + len(TEXTS[name]) / 2 for name in languages])
    language = str(generator.choice(languages, p=shares / shares.sum()))
    sentences = TEXTS[language]
    invented = language not in OTHER_SCRIPTS and generator.random() < 0.65
    words = " ".join(sentences[i] for i in generator.integers(0, len(sentences), 2)).split()
    if generator.random() < 0.5:
        words = [words[i] for i in generator.permutation(len(words))]
    first = int(generator.integers(0, max(1, len(words) - 8)))
    words = words[first : first + int(generator.integers(5, 12))]
    if invented:
        words = invented_words(len(words), generator)
    if generator.random() < 0.4:
        words.insert(int(generator.integers(0, len(words) + 1)), str(generator.integers(1, 100_000)))
    samples, rate, segments = speak(
        " ".join(words),
        f"{language}+{generator.choice(VARIANTS)}",
        words_per_minute=int(generator.integers(110, 215)),
        pitch=int(generator.integers(15, 90)),
        liveliness=int(generator.integers(20, 90)),
    )
    return labelled_clip(
        f"{language} {' '.join(words)}",
        librosa.resample(samples, orig_sr=rate, target_sr=SAMPLE_RATE),
        segments,
        network,
        basis,
    )


def labelled_clip(
    name: str, samples: np.ndarray, segments: Sequence[Segment], network: VisemeNet, basis: Basis
) -> Clip:
    """A clip whose motion is made from its phonemes; whole frames, 0.3 s of silence added to the end."""
    lead, tail = 6, 8
    frames = len(samples) // FRAME_SAMPLES + lead + tail
    padded = np.zeros(frames * FRAME_SAMPLES, np.float32)
    padded[lead * FRAME_SAMPLES : lead * FRAME_SAMPLES + len(samples)] = samples / (np.abs(samples).max() + 1e-6) * 0.7
    moved = [Segment(s.phoneme, s.start + lead / FPS, s.end + lead / FPS) for s in segments]
    spoken = [s for s in moved if s.phoneme]
    words = ((spoken[0].start, spoken[-1].end, "speech"),) if spoken else ()
    return Clip(
        name,
        (padded * 32767).astype(np.int16),
        motion_of(network, basis, moved, frames),
        np.ones(frames, np.float32),
        words,
    )


def read_transcribed(folder: Path, network: VisemeNet, basis: Basis) -> list[Clip]:
    """Recordings with transcripts (`transcripts.csv`: file, text) and the motion their phonemes would have."""
    clips = []
    with (folder / "transcripts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = folder / row["file"]
        if not path.exists():
            path = next(iter(folder.glob(f"{row['file']}.*")), path)
        sound = read_audio(path).samples
        samples, rate, segments = speak(row["text"], "en+f2", words_per_minute=165)
        source = _coefficients(librosa.resample(samples, orig_sr=rate, target_sr=SAMPLE_RATE))
        clips.append(labelled_clip(path.stem, sound, align(segments, source, _coefficients(sound)), network, basis))
    return clips
