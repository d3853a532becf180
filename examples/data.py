"""Write the data sets of the example specs: `python -m examples.data digits.npz breast_cancer.csv`.

Given a folder, all of them are written there. Real ones come from scikit-learn; drawn ones
follow a rule that their writer states, from a fixed seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.raw_data import (
    write_digit_images,
    write_digit_records,
    write_posts,
    write_support_requests,
    write_wine,
    write_wine_validation,
)
from examples.writing import SEED, Array, coloured, digits, enlarged, write_csv


def write_digits(path: Path) -> None:
    """The 1,797 digits of scikit-learn: `x` float32 (rows, 8, 8, 1) in 0..16, `y` int64 (rows,) in 0..9."""
    images, labels = digits()
    np.savez_compressed(path, x=images[..., np.newaxis], y=labels)


def write_digits28(path: Path) -> None:
    """The same digits as 28x28 pixels, flat: `x` float32 (rows, 784) in 0..1, `y` int64 (rows,) in 0..9.

    Each pixel becomes nine, with two pixels of margin around.
    """
    images, labels = digits()
    large = np.pad(enlarged(images, 3), ((0, 0), (2, 2), (2, 2))) / 16
    np.savez_compressed(path, x=large.reshape(len(large), -1), y=labels)


def write_digits32(path: Path) -> None:
    """The first 600 of them as colour images: `x` uint8 (rows, 32, 32, 3), `y` int64 (rows,) in 0..9.

    Each digit has a light colour on a dark one, both drawn.
    """
    images, labels = (array[:600] for array in digits())
    np.savez_compressed(path, x=coloured(enlarged(images, 4)), y=labels)


def write_digit_traits(path: Path) -> None:
    """The digits and what is true of each: `x` float32 (rows, 64) in 0..1; `even`, `prime`, `loop` 0 or 1.

    0, 6, 8 and 9 are written with a loop. Several may be true of a digit, or none.
    """
    images, labels = digits()
    flat = (images / 16).reshape(len(images), -1)
    prime, loop = (np.isin(labels, those).astype(np.int64) for those in ((2, 3, 5, 7), (0, 6, 8, 9)))
    np.savez_compressed(path, x=flat, even=1 - labels % 2, prime=prime, loop=loop)


def write_pairs(path: Path) -> None:
    """2,000 pairs of digits: `left` and `right` float32 (rows, 64) in 0..1, `same` int64 0 or 1.

    Half of them are two pictures of one number.
    """
    images, labels = digits()
    flat = (images / 16).reshape(len(images), -1)
    rng = np.random.default_rng(SEED)
    left = rng.integers(len(flat), size=2000)
    right = np.array(
        [
            rng.choice(np.flatnonzero((labels == labels[each]) if pair % 2 else (labels != labels[each])))
            for pair, each in enumerate(left)
        ]
    )
    same = (labels[left] == labels[right]).astype(np.int64)
    np.savez_compressed(path, left=flat[left], right=flat[right], same=same)


def write_breast_cancer(path: Path) -> None:
    """The 569 tumours of scikit-learn's breast-cancer set: 30 measures a row, and `benign` as 0 or 1."""
    from sklearn.datasets import load_breast_cancer

    tumours = load_breast_cancer()
    write_csv(
        path,
        [*(name.replace(" ", "_") for name in tumours.feature_names), "benign"],
        ([*map(float, row), int(label)] for row, label in zip(tumours.data, tumours.target, strict=True)),
    )


def write_diabetes(path: Path) -> None:
    """The 442 patients of scikit-learn's diabetes set: 10 scaled measures, and `progression`, 25 to 346."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes()
    write_csv(
        path,
        [*patients.feature_names, "progression"],
        # Whole numbers would read as classes.
        (
            [*map(float, row), float(target)]
            for row, target in zip(patients.data, patients.target, strict=True)
        ),
    )


def write_rare(path: Path) -> None:
    """2,000 payments of 8 measures, `a` to `h`; the one in twenty with the highest noisy sum is a `fraud`."""
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(2000, 8))
    score = x @ rng.normal(size=8) + rng.normal(scale=0.5, size=len(x))
    fraud = (score > np.quantile(score, 0.95)).astype(int)
    write_csv(
        path,
        [*"abcdefgh", "fraud"],
        ([*map(float, row), int(label)] for row, label in zip(x.round(4), fraud, strict=True)),
    )


def write_five_classes(path: Path) -> None:
    """1,000 points around five centres: `x` float32 (rows, 20), `y` int64 (rows,) in 0..4.

    `one_hot` float32 (rows, 5) is the same label as a vector.
    """
    rng = np.random.default_rng(SEED)
    y = rng.integers(5, size=1000)
    x = rng.normal(size=(5, 20))[y] + rng.normal(scale=1.2, size=(len(y), 20))
    np.savez_compressed(path, x=x.astype(np.float32), y=y, one_hot=np.eye(5, dtype=np.float32)[y])


def write_reviews(path: Path) -> None:
    """2,000 reviews as word numbers: `words` int32 (rows, 12), `liked` int64 0 or 1. Their order matters.

    `positions` int32 (rows, 12) counts the words from 0, for models that don't know their order.

    0 is padding at the end, 1 is "not", 2 to 19 are praise, 20 to 37 blame, 38 to 59 say nothing. A review is
    liked if it has more praise than blame, "not" turning the next word of either into its opposite.
    """
    rng = np.random.default_rng(SEED)
    words: list[Array] = []
    liked: list[int] = []
    while len(words) < 2000:
        length = int(rng.integers(5, 13))
        review = rng.choice(60, size=length, p=[0.0, 0.2, *[0.6 / 36] * 36, *[0.2 / 22] * 22])
        opinion, turned = 0, False
        for word in review:
            if word == 1:
                turned = True
            elif word < 38:
                opinion += -1 if (word < 20) == turned else 1
                turned = False
        if opinion:
            words.append(np.pad(review, (0, 12 - length)))
            liked.append(int(opinion > 0))
    positions = np.tile(np.arange(12, dtype=np.int32), (len(words), 1))
    np.savez_compressed(
        path, words=np.array(words, np.int32), positions=positions, liked=np.array(liked, np.int64)
    )


def write_tickets(path: Path) -> None:
    """Customers' tickets: `title` int32 (rows, 10) and `customer` float32 (rows, 6) in; two answers out.

    `department` int64 in 0..3 is the one whose words are most in the title (12 words each, of 48); `priority`
    float32 in 0..1 rises with some of the customer's measures and with words of the last department.
    """
    rng = np.random.default_rng(SEED)
    rows = 1500
    topic = rng.integers(4, size=rows)
    own = topic[:, np.newaxis] * 12 + rng.integers(12, size=(rows, 10))
    title = np.where(rng.random((rows, 10)) < 0.5, own, rng.integers(48, size=(rows, 10)))
    count = np.stack([(title // 12 == each).sum(axis=1) for each in range(4)], axis=1)
    customer = rng.normal(size=(rows, 6)).astype(np.float32)
    urgency = customer[:, :3] @ np.array([1.0, -0.7, 0.4]) + 0.4 * (count[:, 3] - 2.5)
    np.savez_compressed(
        path,
        title=title.astype(np.int32),
        customer=customer,
        department=count.argmax(axis=1),
        priority=(1 / (1 + np.exp(-urgency))).astype(np.float32),
    )


def write_clicks(path: Path) -> None:
    """4,000 visits: `user` of 60, `item` of 40, and `clicked`, more often where their hidden tastes agree."""
    rng = np.random.default_rng(SEED)
    users, items = rng.normal(size=(60, 4)), rng.normal(size=(40, 4))
    user, item = rng.integers(60, size=4000), rng.integers(40, size=4000)
    agree = (users[user] * items[item]).sum(axis=1)
    clicked = rng.random(4000) < 1 / (1 + np.exp(-2 * agree))
    write_csv(path, ["user", "item", "clicked"], zip(user, item, clicked.astype(int), strict=True))


def write_ring(path: Path) -> None:
    """1,000 points `x`, `y` on a noisy ring of radius 1, without a label: what a GAN imitates."""
    rng = np.random.default_rng(SEED)
    angle = rng.uniform(0, 2 * np.pi, size=1000)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(scale=0.05, size=(1000, 2))
    write_csv(path, ["x", "y"], points.round(4).tolist())


WRITERS: dict[str, Callable[[Path], None]] = {
    "digits.npz": write_digits,
    "digits28.npz": write_digits28,
    "digits32.npz": write_digits32,
    "pairs.npz": write_pairs,
    "breast_cancer.csv": write_breast_cancer,
    "diabetes.csv": write_diabetes,
    "rare.csv": write_rare,
    "five_classes.npz": write_five_classes,
    "reviews.npz": write_reviews,
    "tickets.npz": write_tickets,
    "clicks.csv": write_clicks,
    "ring.csv": write_ring,
    "digit_traits.npz": write_digit_traits,
    "support_requests.csv": write_support_requests,
    "wine.csv": write_wine,
    "wine_validation.csv": write_wine_validation,
    "posts.jsonl": write_posts,
    "digit_records.tfrecord": write_digit_records,
    "digit_images.zip": write_digit_images,
}


def file_of(uri: str) -> str:
    """The file that an example's `dataset://NAME` is uploaded from."""
    name = uri.removeprefix("dataset://").replace("-", "_")
    (found,) = (file for file in WRITERS if file.partition(".")[0] == name)
    return found


def main() -> int:
    """Write the files named on the command line, or all of them into a folder."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if len(paths) == 1 and paths[0].is_dir():
        paths = [paths[0] / name for name in WRITERS]
    unknown = [path.name for path in paths if path.name not in WRITERS]
    if unknown or not paths:
        sys.stderr.write(
            f"usage: python -m examples.data FOLDER | FILE..., each named one of {', '.join(WRITERS)}\n"
        )
        return 2
    for path in paths:
        WRITERS[path.name](path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
