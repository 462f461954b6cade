import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from robustbench_spur.phantom.anatomy import (
    draw_anatomy,
    draw_extents,
    draw_foci,
    draw_lesions,
    draw_masses,
    extent_quantiles,
)
from robustbench_spur.phantom.draws import Stream, Uniforms, generator, uniforms

PATIENTS = np.arange(4000)


@given(
    st.tuples(st.integers(0, 2**63 - 1), st.sampled_from(Stream), st.integers(0, 2**32 - 1), st.integers(0, 2**20 - 1)),
    st.tuples(st.integers(0, 2**63 - 1), st.sampled_from(Stream), st.integers(0, 2**32 - 1), st.integers(0, 2**20 - 1)),
)
def test_two_addresses_share_a_stream_only_if_they_are_one(
    a: tuple[int, Stream, int, int], b: tuple[int, Stream, int, int]
) -> None:
    same = bool((generator(*a).random(4) == generator(*b).random(4)).all())
    assert same == (a == b)


def test_neighbouring_addresses_are_uncorrelated() -> None:
    first = uniforms(3, Stream.ANATOMY, PATIENTS, (2,))
    second = uniforms(3, Stream.LESION, PATIENTS, (2,))
    table = np.column_stack([first, second, np.roll(first[:, :1], 1, axis=0)])
    off_diagonal = np.asarray(np.corrcoef(table.T))[~np.eye(5, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4 / np.sqrt(len(PATIENTS))


def test_distributions_match_scipy() -> None:
    probability = np.linspace(0.0005, 0.9995, 1000)[:, None]
    assert Uniforms(probability).normal(2.0, 3.0) == pytest.approx(stats.norm.ppf(probability[:, 0], 2.0, 3.0))
    assert Uniforms(probability).lognormal(2.0, 0.4) == pytest.approx(
        stats.lognorm.ppf(probability[:, 0], 0.4, scale=2.0)
    )
    for mean in (1.2, 5.0):
        expected = np.minimum(stats.poisson.ppf(probability[:, 0], mean), 4)
        assert Uniforms(probability).poisson(mean, 4).tolist() == expected.tolist()
    codes = Uniforms(probability).category((0.1, 0.4, 0.4, 0.1))
    assert np.bincount(codes).tolist() == [100, 400, 400, 100]


def test_lesions_have_the_stated_diameters() -> None:
    radius = draw_extents(1, PATIENTS).radius
    # Log-normal, median 10.5 mm and sd 0.35: 5, 50 and 95 % at 10.5 exp(-0.5757), 10.5, 10.5 exp(0.5757).
    assert 2 * np.quantile(radius, (0.05, 0.5, 0.95)) == pytest.approx((11.8, 21.0, 37.3), rel=0.04)
    assert radius.min() >= 5.5 and radius.max() <= 24.0


def test_the_extent_alone_is_the_lesions_extent() -> None:
    patients = PATIENTS[:50]
    extent, lesions = draw_extents(5, patients), draw_lesions(5, patients, draw_anatomy(5, patients))
    assert (extent.z == lesions.z).all() and (extent.half_height == lesions.half_height).all()


def test_extent_quantiles_describe_the_population() -> None:
    drawn = draw_extents(2, PATIENTS).half_height
    quadrature = extent_quantiles()
    assert quadrature.mean() == pytest.approx(drawn.mean(), rel=0.03)
    assert np.median(quadrature) == pytest.approx(np.median(drawn), rel=0.03)


def test_a_patient_is_the_same_whoever_else_is_drawn() -> None:
    alone, together = draw_anatomy(7, PATIENTS[41:42]), draw_anatomy(7, PATIENTS[:100])
    assert alone.breast_length[0] == together.breast_length[41]
    one, many = draw_lesions(7, PATIENTS[41:42], alone), draw_lesions(7, PATIENTS[:100], together)
    assert one.x[0] == many.x[41] and (one.amplitudes[0] == many.amplitudes[41]).all()


def test_benign_findings_have_the_stated_rates() -> None:
    body = draw_anatomy(4, PATIENTS)
    masses, foci = draw_masses(4, PATIENTS, body), draw_foci(4, PATIENTS, body)
    assert masses.present.sum(axis=1).mean() == pytest.approx(1.2, abs=0.06)
    assert foci.present.sum(axis=1).mean() == pytest.approx(5.0, abs=0.15)
    assert masses.cyst.mean() == pytest.approx(0.25, abs=0.02)
