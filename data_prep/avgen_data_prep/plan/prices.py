"""Prices as dated inputs: a YAML file that says of each when it was true and where it is from."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from avgen_data_prep.plan.ranges import Range

_FIELDS = {"price", "date", "checked", "source"}


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a unit costs.

    Attributes:
        name: In the file.
        price: Of a unit, in the file's currency.
        date: Day on which it was true.
        checked: Whether the owner of the file has held it to an offer.
        source: Where it is from.
    """

    name: str
    price: Range
    date: datetime.date
    checked: bool
    source: str

    def rests_on(self) -> str:
        """What a line of a plan says of it."""
        return f"{self.name}, price of {self.date}{'' if self.checked else ', to be checked'}"


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The prices of a file.

    Attributes:
        currency: Of all of them.
        prices: By name: ``storage`` (a TB for a month), ``transfer.KIND`` (a TB), ``worker.KIND`` (an
            hour), ``caption.MODEL.input`` and ``caption.MODEL.output`` (a million tokens).
        place: The file, for messages.
    """

    currency: str
    prices: Mapping[str, Price]
    place: str

    def __getitem__(self, name: str) -> Price:
        """A price.

        Raises:
            ValueError: There is none of this name.
        """
        if name not in self.prices:
            group = name.split(".")[0]
            alike = [known for known in self.prices if known.split(".")[0] == group]
            raise ValueError(
                f"no price {name!r} in {self.place}; there are {', '.join(alike or self.prices)}; "
                "give a file that has it with --prices FILE"
            )
        return self.prices[name]


def load_prices(path: Path | None = None) -> Prices:
    """The prices of a file; None takes those that come with avgen.

    Raises:
        ValueError: The file is missing, or is not of this form.
    """
    packaged = files("avgen_data_prep") / "plan" / "prices.yaml"
    place = "the prices of avgen" if path is None else str(path)
    try:
        text = packaged.read_text() if path is None else path.read_text()
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{place}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("prices"), dict):
        raise ValueError(f"{place}: give a mapping with `currency` and a mapping `prices`")
    if not isinstance(data.get("currency"), str):
        raise ValueError(f"{place}: currency is {data.get('currency')!r}; give a name such as USD")
    prices = {str(name): _price(str(name), item, place) for name, item in data["prices"].items()}
    return Prices(currency=data["currency"], prices=prices, place=place)


def _price(name: str, item: Any, place: str) -> Price:
    if not isinstance(item, dict) or set(item) != _FIELDS:
        given = sorted(map(str, item)) if isinstance(item, dict) else repr(item)
        raise ValueError(f"{place}: {name} has {given}; give {', '.join(sorted(_FIELDS))}")
    values = item["price"] if isinstance(item["price"], list) else [item["price"]] * 3
    if len(values) != 3 or not all(type(value) in (int, float) for value in values):
        raise ValueError(
            f"{place}: {name} costs {item['price']!r}; give a number, or [low, middle, high]"
        )
    if type(item["date"]) is not datetime.date:
        raise ValueError(f"{place}: {name} is of {item['date']!r}; give a date such as 2026-11-22")
    if type(item["checked"]) is not bool:
        raise ValueError(f"{place}: {name} has checked {item['checked']!r}; give true or false")
    try:
        price = Range(*map(float, values))
    except ValueError as error:
        raise ValueError(f"{place}: {name}: {error}") from error
    rest = {"date": item["date"], "checked": item["checked"], "source": str(item["source"])}
    return Price(name=name, price=price, **rest)
