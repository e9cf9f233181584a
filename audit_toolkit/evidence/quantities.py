"""The glossary: every quantity the toolkit prints, in words a lawyer can read.

One entry says what the number is, what it is divided by, where its formula comes from, and what it does not show. Reports,
the command ``explain`` and the tests read the same entries, so a sentence stands in one place only.

``sentence`` is a template for `str.format`; its fields are filled by the domain that made the estimate.
"""

from __future__ import annotations

from audit_toolkit.errors import UsageError
from audit_toolkit.evidence.quantity import ISO, RATE, RATIO, Quantity
from audit_toolkit.evidence.search_quantities import SEARCHES

_SPREAD_LIMITS = (
    "A spread measure is above its ideal by chance alone when groups are small; read it beside what chance would give. "
    "One number cannot show which group is affected, nor why."
)
_ALPHA = "The weight alpha between FMR and FNMR changes the ranking of systems; it is printed with every value."

_RATES = (
    Quantity(
        id="fmr",
        name="false match rate (FMR)",
        unit="rate",
        definition="Share of comparisons of two different people whose score reaches the threshold, so that the system "
        "would take them for the same person.",
        numerator="non-mated comparisons with score >= threshold",
        denominator="non-mated comparisons with a score",
        source=f"{ISO} (false match rate)",
        limits="Holds for this threshold, this choice of non-mated pairs and these people. Comparisons that share a person "
        "are not independent; the interval accounts for that.",
        sentence=RATE,
    ),
    Quantity(
        id="fmr_extrapolated",
        name="extrapolated false match rate (not counted)",
        unit="rate",
        definition="False match rate at a threshold so high that too few false matches could be counted, read off a generalised "
        "Pareto tail fitted to the highest non-mated scores.",
        numerator="none: the rate is extrapolated, not counted",
        denominator="none; the number of scores in the fitted tail and of all non-mated comparisons is printed",
        source="Pickands 1975, Ann. Stat. 3; Hosking & Wallis 1987, Technometrics 29; in the spirit of ISO/IEC 5152:2024",
        limits="An extrapolation, never to be mixed with counted rates: it holds only if the tail keeps its shape beyond the "
        "scores seen. For bell-shaped scores it comes out too low, by about half at one in a million from the top hundredth of "
        "a hundred thousand scores. Read it beside the figures from other shares of the top scores.",
        sentence="{threshold}, the {name} for {group} was {value} ({interval}).",
    ),
    Quantity(
        id="fnmr",
        name="false non-match rate (FNMR)",
        unit="rate",
        definition="Share of comparisons of a person with themselves whose score stays below the threshold, so that the "
        "system would fail to recognise them.",
        numerator="mated comparisons with score < threshold",
        denominator="mated comparisons with a score",
        source=f"{ISO} (false non-match rate)",
        limits="Holds for this threshold and for the time between captures in this sample; later captures usually give more "
        "false non-matches.",
        sentence=RATE,
    ),
    Quantity(
        id="fte",
        name="failure-to-enrol rate (FTE)",
        unit="rate",
        definition="Share of enrolment attempts that yield no usable reference template.",
        numerator="failed enrolment attempts",
        denominator="enrolment attempts",
        source=f"{ISO} (failure-to-enrol rate)",
        limits="Counts only failures that the file states. Failures removed before scoring cannot be seen.",
        sentence=RATE,
    ),
    Quantity(
        id="fta",
        name="failure-to-acquire rate (FTA)",
        unit="rate",
        definition="Share of probe captures that yield no usable probe.",
        numerator="failed acquisition attempts",
        denominator="acquisition attempts",
        source=f"{ISO} (failure-to-acquire rate)",
        limits="Counts only failures that the file states.",
        sentence=RATE,
    ),
    Quantity(
        id="gfar",
        name="generalised false accept rate (GFAR)",
        unit="rate",
        definition="False accept rate when failures to enrol and to acquire are counted as what they are for an impostor: "
        "no accept. GFAR = (1 - FTE)(1 - FTA) FMR.",
        denominator="attempts, failures included",
        source=f"{ISO} (generalised false accept rate)",
        limits="A product of rates measured on the same people; its interval comes from leaving one person out at a time.",
        sentence=RATE,
    ),
    Quantity(
        id="gfrr",
        name="generalised false reject rate (GFRR)",
        unit="rate",
        definition="False reject rate when a failure to enrol or to acquire counts as a rejection. "
        "GFRR = FTE + (1 - FTE) FTA + (1 - FTE)(1 - FTA) FNMR.",
        denominator="attempts, failures included",
        source=f"{ISO} (generalised false reject rate)",
        limits="A combination of rates measured on the same people.",
        sentence=RATE,
    ),
    Quantity(
        id="far",
        name="false accept rate of transactions (FAR)",
        unit="rate",
        definition="Share of impostor transactions in which at least one attempt reaches the threshold.",
        numerator="impostor transactions whose best score reaches the threshold",
        denominator="impostor transactions",
        source=f"{ISO} (false accept rate)",
        limits="Depends on how many attempts a transaction allows.",
        sentence=RATE,
    ),
    Quantity(
        id="frr",
        name="false reject rate of transactions (FRR)",
        unit="rate",
        definition="Share of genuine transactions in which no attempt reaches the threshold, failures to acquire included.",
        numerator="genuine transactions whose best score stays below the threshold",
        denominator="genuine transactions",
        source=f"{ISO} (false reject rate)",
        limits="Depends on how many attempts a transaction allows.",
        sentence=RATE,
    ),
)

_OTHERS = (
    Quantity(
        id="threshold",
        name="threshold",
        unit="score",
        definition="The score from which the system says: same person. A comparison matches when its score is at or above it.",
        source="the plan's threshold policy",
        limits="A threshold set on the same data carries the data's chance; the intervals of the rates account for it.",
    ),
    Quantity(
        id="eer",
        name="equal error rate (EER)",
        unit="rate",
        definition="The error rate at the threshold where overall FMR and FNMR are closest to each other.",
        source=f"{ISO}; a summary of a curve, not an operating point",
        limits="No system is operated at this point for its own sake; it describes the curve.",
    ),
    Quantity(
        id="fmr_ratio",
        name="ratio of false match rates",
        unit="rate ratio",
        definition="FMR of one group divided by FMR of another, both within the group at the same threshold.",
        numerator="FMR of the group",
        denominator="FMR of the group it is held against",
        source="ratio of two rates; interval on the logarithmic scale with the covariance of shared people",
        limits="Does not show why, nor that other thresholds behave alike.",
        sentence=RATIO,
        ideal=1.0,
    ),
    Quantity(
        id="fnmr_ratio",
        name="ratio of false non-match rates",
        unit="rate ratio",
        definition="FNMR of one group divided by FNMR of another at the same threshold.",
        numerator="FNMR of the group",
        denominator="FNMR of the group it is held against",
        source="ratio of two rates; interval on the logarithmic scale",
        limits="Does not show why, nor that other thresholds behave alike.",
        sentence=RATIO,
        ideal=1.0,
    ),
    Quantity(
        id="max_min_ratio",
        name="largest to smallest rate",
        unit="ratio",
        definition="The largest group rate divided by the smallest.",
        source="NIST FRTE demographics tables (Max/Min)",
        limits=_SPREAD_LIMITS + " Undefined when a group shows no error.",
        ideal=1.0,
    ),
    Quantity(
        id="max_geomean_ratio",
        name="largest rate to geometric mean",
        unit="ratio",
        definition="The largest group rate divided by the geometric mean of the group rates.",
        source="NIST IR 8429 (draft, 2022), Max/GeoMean",
        limits=_SPREAD_LIMITS + " A group without errors enters with the floor that is printed beside the value.",
        ideal=1.0,
    ),
    Quantity(
        id="max_mean_ratio",
        name="largest rate to mean",
        unit="ratio",
        definition="The largest group rate divided by the arithmetic mean of the group rates.",
        source="NIST FRTE demographics tables (Max/Mean)",
        limits=_SPREAD_LIMITS,
        ideal=1.0,
    ),
    Quantity(
        id="max_min_difference",
        name="largest less smallest rate",
        unit="difference",
        definition="The largest group rate minus the smallest.",
        source="NIST FRTE demographics tables (Max-Min); the gap of Gender Shades (Buolamwini & Gebru 2018)",
        limits=_SPREAD_LIMITS,
        ideal=0.0,
    ),
    Quantity(
        id="gini",
        name="Gini coefficient (plain)",
        unit="index",
        definition="Mean absolute difference between all pairs of group rates, divided by twice their mean: "
        "sum |z_i - z_j| / (2 K^2 mean z).",
        source="Gini; in NIST IR 8429 and Howard et al., arXiv 2203.05051",
        limits=_SPREAD_LIMITS
        + " With K groups it cannot exceed (K - 1)/K. If no group shows an error it is 0 by the rule of "
        "Howard et al. (0/0 := 0).",
        ideal=0.0,
    ),
    Quantity(
        id="gini_normalised",
        name="Gini coefficient (normalised)",
        unit="index",
        definition="The plain Gini coefficient times K/(K - 1), so that it reaches from 0 to 1 for any number of groups.",
        source="Howard et al., arXiv 2203.05051",
        limits=_SPREAD_LIMITS + " If no group shows an error it is 0 by the rule of Howard et al. (0/0 := 0).",
        ideal=0.0,
    ),
    Quantity(
        id="std",
        name="standard deviation of group rates",
        unit="difference",
        definition="Standard deviation of the group rates; ddof is printed (0 divides by K, 1 by K - 1).",
        source="used as STD or degree of bias in the RFW literature, there on accuracies",
        limits=_SPREAD_LIMITS,
        ideal=0.0,
    ),
    Quantity(
        id="mad",
        name="mean absolute deviation of group rates",
        unit="difference",
        definition="Mean absolute difference between a group's rate and the mean of the group rates.",
        source="used in the RFW literature",
        limits=_SPREAD_LIMITS,
        ideal=0.0,
    ),
    Quantity(
        id="fairness_discrepancy_rate",
        name="Fairness Discrepancy Rate (FDR, the published name)",
        unit="index",
        definition="1 - (alpha A + (1 - alpha) B), where A and B are largest less smallest FMR and FNMR over the groups.",
        source="de Freitas Pereira & Marcel, arXiv 2011.02395",
        limits="Where FMR is far below FNMR the value hardly sees FMR. "
        + _ALPHA
        + " Not to be confused with the false "
        "discovery rate, which has the same acronym.",
        ideal=1.0,
    ),
    Quantity(
        id="area_under_fdr",
        name="area under the Fairness Discrepancy Rate (auFDR)",
        unit="index",
        definition="Mean of the Fairness Discrepancy Rate over thresholds set at overall FMR values spaced evenly on a "
        "logarithmic axis; the range is printed.",
        source="de Freitas Pereira & Marcel, arXiv 2011.02395",
        limits="Only overall FMR values that this file can resolve are used. " + _ALPHA,
        ideal=1.0,
    ),
    Quantity(
        id="inequity_rate",
        name="Inequity Rate (IR)",
        unit="ratio",
        definition="(max FMR / min FMR)^alpha (max FNMR / min FNMR)^(1 - alpha) over the groups.",
        source="Grother, NIST, as given in arXiv 2203.05051",
        limits="Undefined when a group shows no error. " + _ALPHA,
        ideal=1.0,
    ),
    Quantity(
        id="garbe",
        name="Gini Aggregation Rate for Biometric Equitability (GARBE)",
        unit="index",
        definition="alpha G(FMR) + (1 - alpha) G(FNMR), where G is the normalised Gini coefficient over the groups.",
        source="Howard et al., arXiv 2203.05051",
        limits=_SPREAD_LIMITS + " " + _ALPHA,
        ideal=0.0,
    ),
    Quantity(
        id="werm",
        name="Worst-case Error Rate Measure (WERM)",
        unit="ratio",
        definition="(max FMR / geomean FMR)^alpha (max FNMR / geomean FNMR)^(1 - alpha), a small epsilon added to each rate in "
        "the geometric mean; epsilon is printed.",
        source="score-norm-fairness (IJCB 2024), compute_werm_geo",
        limits="At very low FMR the epsilon decides the value. " + _ALPHA,
        ideal=1.0,
    ),
    Quantity(
        id="ser",
        name="Skewed Error Ratio (SER)",
        unit="ratio",
        definition="Largest group error (100 % - accuracy, over mated and non-mated comparisons together) divided by the "
        "smallest.",
        source="RFW literature",
        limits="Accuracy depends on the share of mated comparisons in the file. Undefined when a group shows no error.",
        ideal=1.0,
    ),
    Quantity(
        id="ratio_p",
        name="p-value of one ratio",
        unit="p-value",
        definition="How often a ratio at least this far from 1 would be seen if the two true rates were equal.",
        source="t test on the logarithm of the ratio; adjusted as printed: none, Holm (for the family-wise error rate), or "
        "Benjamini-Hochberg (for the false discovery rate of tests)",
        limits="A p-value says nothing about how large a difference is.",
    ),
    Quantity(
        id="equality_p",
        name="test of equal rates (max |T|, subject bootstrap)",
        unit="p-value",
        definition="How often, if all groups had the same true rate, resampling people would give a largest studentised "
        "difference at least as large as the one seen.",
        source="centred subject bootstrap of max |T|; false-alarm rate simulated in benchmarks/",
        limits="A large p-value is not evidence of equality; read it beside the minimum detectable ratio.",
    ),
    Quantity(
        id="permutation_p",
        name="label permutation over subjects",
        unit="p-value",
        definition="How often shuffling the labels over the people gives a largest studentised difference at least as large "
        "as the one seen.",
        source="permutation test over subjects, strata-free",
        limits="Tests that labels carry no information at all, which is more than equal rates; shown, never decides.",
    ),
    Quantity(
        id="equivalence_ratio",
        name="smallest ratio excluded",
        unit="rate ratio",
        definition="The smallest r such that a ratio of the two rates outside 1/r to r is excluded at the stated level.",
        source="two one-sided tests (TOST) on the logarithmic scale",
        limits="This is what 'no difference' can honestly mean: differences up to r remain possible.",
        ideal=1.0,
    ),
    Quantity(
        id="minimum_detectable_ratio",
        name="minimum detectable ratio",
        unit="rate ratio",
        definition="The ratio of true rates that this file would detect with 80 % power at the stated level, given the errors "
        "seen and the design effect.",
        source="errors needed: 2 deff (z_{1-a/2} + z_{1-b})^2 / ln(ratio)^2, inverted",
        limits="A smaller true difference can well be there and go unseen.",
    ),
    Quantity(
        id="ks_distance",
        name="distance between score distributions (KS)",
        unit="index",
        definition="Largest difference between the cumulative score distributions of the group and of all other groups.",
        source="Kolmogorov-Smirnov distance; differential performance, Howard, Sirotin & Vemury 2019",
        limits="Independent of any threshold; a shift need not matter at the threshold in use. Measured on the score grid.",
        ideal=0.0,
    ),
    Quantity(
        id="d_prime",
        name="shift of scores (d')",
        unit="difference",
        definition="How many pooled standard deviations the group's mean score lies above that of all other groups: "
        "(mean - mean of the others) / sqrt((variance + variance of the others) / 2), for mated or for non-mated scores.",
        source="decidability index, Green & Swets 1966; differential performance, Howard, Sirotin & Vemury 2019",
        limits="Describes bell-shaped distributions; says little about the tails where thresholds stand.",
        ideal=0.0,
    ),
    Quantity(
        id="mantel_haenszel_ratio",
        name="ratio of rates within strata (Mantel-Haenszel)",
        unit="rate ratio",
        definition="Ratio of two groups' error rates, compared only within strata of the covariate and pooled.",
        source="Mantel-Haenszel risk ratio; interval from leaving one person out at a time",
        limits="Adjusts for this covariate only. A covariate that itself follows from group membership can hide a difference.",
        ideal=1.0,
    ),
    Quantity(
        id="logistic_odds_ratio",
        name="adjusted odds ratio (logistic regression)",
        unit="odds ratio",
        definition="Odds of an error in the group over the odds in the group it is held against, the covariates' classes held "
        "equal.",
        source="logistic regression on counts with a sandwich variance clustered by person",
        limits="Adjusts for the covariates in the model only, on the logit scale, without interactions.",
        ideal=1.0,
    ),
)

ALL: dict[str, Quantity] = {entry.id: entry for entry in (*_RATES, *SEARCHES, *_OTHERS)}


def get(quantity: str) -> Quantity:
    """The glossary entry of that id; raises `UsageError` naming near matches."""
    try:
        return ALL[quantity]
    except KeyError:
        near = ", ".join(sorted(k for k in ALL if quantity.lower() in k or k in quantity.lower())) or ", ".join(
            sorted(ALL)
        )
        raise UsageError(f"There is no quantity {quantity!r} in the glossary.", mend=f"Known: {near}.") from None
