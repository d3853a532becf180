"""Data sets as people have them: texts, dates, gaps, records, files of images."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from examples.writing import SEED, coloured, digits, enlarged, write_csv

WORDS = {
    "billing": ("invoice", "refund", "Rechnung", "remboursement", "счёт", "請求書"),
    "delivery": ("parcel", "late", "Lieferung", "colis", "доставка", "荷物"),
    "technical": ("crash", "error", "Störung", "panne", "ошибка", "エラー"),
}
"""What customers write to each team about, in several languages."""
SMALL_TALK = ("hello", "please", "thanks", "Grüße", "s'il", "vous", "plaît", "вчера", "ありがとう", "again")
PLANS = {"free": "technical", "basic": "billing", "pro": "delivery", "法人": "technical"}
"""Plans, and the team that customers of each ask most."""
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SYLLABLES = ("ka", "lo", "mé", "ñu", "ša", "rö", "ти", "wo")


def write_support_requests(path: Path) -> None:
    """900 requests: `opened` (a date), `plan`, `waited_h`, `message`; and the `team` that they are for.

    The team is the plan's in half of them, else drawn, delivery three times as often on weekends. A message
    has two of the team's words among small talk; one in eight is empty. Those for delivery waited longer. A
    twelfth of the plans, a tenth of the hours and a twentieth of the dates are missing.
    """
    rng = np.random.default_rng(SEED)
    teams = list(WORDS)
    rows = []
    for _ in range(900):
        opened = date(2024, 1, 1) + timedelta(days=int(rng.integers(730)))
        plan = str(rng.choice(list(PLANS)))
        weekend = opened.weekday() >= 5
        drawn = rng.choice(teams, p=[0.2, 0.6, 0.2] if weekend else [0.4, 0.2, 0.4])
        team = PLANS[plan] if rng.random() < 0.5 else str(drawn)
        said = [*rng.choice(WORDS[team], size=2), *rng.choice(SMALL_TALK, size=int(rng.integers(2, 7)))]
        message = " ".join(rng.permutation(said)).capitalize() + str(rng.choice(["", ".", "!", "…"]))
        waited_h = rng.exponential(48 if team == "delivery" else 12)
        rows.append(
            [
                None if rng.random() < 1 / 20 else opened.isoformat(),
                None if rng.random() < 1 / 12 else plan,
                None if rng.random() < 1 / 10 else round(waited_h, 1),
                None if rng.random() < 1 / 8 else message,
                team,
            ]
        )
    write_csv(path, ["opened", "plan", "waited_h", "message", "team"], rows)


def write_wine(path: Path) -> None:
    """Scikit-learn's wines but every fourth: 13 measures a row, and the `cultivar` as a text."""
    _write_wine(path, validation=False)


def write_wine_validation(path: Path) -> None:
    """Every fourth of the wines."""
    _write_wine(path, validation=True)


def write_posts(path: Path) -> None:
    """2,000 posts: `author` of 30, `text` of up to 12 of 40 words, and `liked` 0 or 1.

    Each word has a tone and each author a standing, both hidden; a post is liked if they add up to more
    than 0.
    """
    rng = np.random.default_rng(SEED)
    words = [a + b for a in SYLLABLES for b in SYLLABLES[:5]]
    authors = [f"{a}{b}".title() for a in SYLLABLES[:6] for b in SYLLABLES[3:]]
    tone, standing = rng.normal(size=len(words)), 2 * rng.normal(size=len(authors))
    with path.open("w", encoding="utf-8") as file:
        for _ in range(2000):
            author = int(rng.integers(len(authors)))
            said = rng.integers(len(words), size=int(rng.integers(3, 13)))
            liked = int(tone[said].sum() + standing[author] > 0)
            text = " ".join(words[word] for word in said)
            post = {"author": authors[author], "text": text, "liked": liked}
            file.write(json.dumps(post, ensure_ascii=False) + "\n")


def write_digit_records(path: Path) -> None:
    """The digits as TFRecord of tf.train.Example: `pixels`, 64 floats in 0..16, and `digit`, an int64."""
    import tensorflow as tf

    images, labels = digits()
    with tf.io.TFRecordWriter(str(path)) as file:
        for image, label in zip(images, labels, strict=True):
            features = {
                "pixels": tf.train.Feature(float_list=tf.train.FloatList(value=image.ravel())),
                "digit": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            file.write(example.SerializeToString())


def write_digit_images(path: Path) -> None:
    """The first 600 digits as files of 288x288 pixels, in colour, one folder a class: `zero` to `nine`.

    Every other file is a PNG, the rest are JPEGs.
    """
    from PIL import Image

    images, labels = (array[:600] for array in digits())
    with zipfile.ZipFile(path, "w") as archive:
        for number, picture in enumerate(coloured(images)):
            suffix, form = (".png", "PNG") if number % 2 else (".jpg", "JPEG")
            content = io.BytesIO()
            Image.fromarray(enlarged(picture[np.newaxis], 36)[0]).save(content, form)
            # A ZipInfo of its own has no time of day, so the archive is the same each time.
            name = f"digits/{NAMES[labels[number]]}/{number:03}{suffix}"
            archive.writestr(zipfile.ZipInfo(name), content.getvalue())


def _write_wine(path: Path, *, validation: bool) -> None:
    from sklearn.datasets import load_wine

    wines = load_wine()
    cultivars = np.array(["Barolo", "Grignolino", "Barbera"])[wines.target]
    measures = [name.replace("/", "_") for name in wines.feature_names]
    write_csv(
        path,
        [*measures, "cultivar"],
        (
            [*map(float, row), cultivar]
            for number, (row, cultivar) in enumerate(zip(wines.data, cultivars, strict=True))
            if (number % 4 == 3) == validation
        ),
    )
