"""Option types, declared once and used by every command that has them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

RUNTIME = "Runtime"
OUTPUT = "Output"


class LandmarkDetector(str, Enum):
    """Who finds the landmarks of the photograph."""

    AUTO = "auto"
    SHIPPED = "shipped"
    FACE_ALIGNMENT = "face-alignment"


FaceArgument = Annotated[Path, typer.Argument(metavar="FACE", help="A photograph: jpg, png, webp, ...")]
SpeechArgument = Annotated[
    Path, typer.Argument(metavar="SPEECH", help="A recording: wav, flac, mp3, m4a, ..., or a video with sound.")
]
EmotionOption = Annotated[
    str,
    typer.Option(
        "--emotion", "-e", metavar="NAME",
        help="angry, disgusted, contempt, fear, happy, sad, surprised or neutral; synonyms work; a blend is "
        "happy=0.6,surprised=0.4.",
    ),
]  # fmt: skip
IntensityOption = Annotated[
    float,
    typer.Option(
        "--intensity", "-i", metavar="0..3", help="1 weak, 2 medium, 3 strong, decimals between; 0 is neutral."
    ),
]
StillOption = Annotated[bool, typer.Option("--still", help="No blinks, no motion of brows and head.")]
FpsOption = Annotated[float, typer.Option("--fps", metavar="RATE", help="Frames per second of the video.")]
FaceIndexOption = Annotated[
    int, typer.Option("--face", metavar="N", help="Which face when there are several; 1 is the largest.")
]
LandmarksOption = Annotated[
    LandmarkDetector,
    typer.Option("--landmarks", help="Who finds the landmarks; auto is face-alignment if it is ready, else shipped."),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Of everything random.", rich_help_panel=RUNTIME)]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=RUNTIME)
]
WeightsOption = Annotated[
    str,
    typer.Option(
        "--weights", metavar="WHERE", help="shipped, a folder, a file, or the name of published weights.",
        rich_help_panel=RUNTIME,
    ),
]  # fmt: skip
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never touch the network; EMOTALK_OFFLINE=1 too.", rich_help_panel=RUNTIME)
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="PATH", rich_help_panel=OUTPUT,
        help="The mp4 to write, or a folder for it; default is a name made of face, speech and emotion.",
    ),
]  # fmt: skip
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output if it exists.", rich_help_panel=OUTPUT)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes; errors still show.", rich_help_panel=OUTPUT)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=OUTPUT)]
