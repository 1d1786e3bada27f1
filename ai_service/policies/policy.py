"""What an institution makes of a score: the cuts between bands, and whether the answer follows them."""

from dataclasses import dataclass

from common.contracts.decisions import EnforcementMode
from common.contracts.institutions import Institution, InstitutionMode

BUILT_IN_VERSION = 1
CHALLENGE_FROM = 0.35
DECLINE_FROM = 0.65


@dataclass(frozen=True)
class Policy:
    """Cuts on the fraud probability (0-1; the risk score uses the same times 100).

    `model_may_decline` is false where a model that was trained only on simulated data would stop real money:
    its declines become reviews.
    """

    version: int = BUILT_IN_VERSION
    challenge_from: float = CHALLENGE_FROM
    decline_from: float = DECLINE_FROM
    mode: EnforcementMode = EnforcementMode.ENFORCE
    model_may_decline: bool = True

    @property
    def cuts(self) -> tuple[float, float]:
        """Return where the medium and the high band begin."""
        return self.challenge_from, self.decline_from


@dataclass(frozen=True)
class Policies:
    """The policy of each institution; so far every one has the built-in policy of its mode."""

    sandbox: Policy
    live: Policy

    def of(self, institution: Institution) -> Policy:
        """Return the policy that decides for `institution`."""
        return self.live if institution.mode is InstitutionMode.LIVE else self.sandbox


def built_in_policies(*, model_is_simulated: bool) -> Policies:
    """Return the policies institutions start with: sandboxes enforce, live institutions observe."""
    return Policies(
        sandbox=Policy(mode=EnforcementMode.ENFORCE),
        live=Policy(mode=EnforcementMode.OBSERVE, model_may_decline=not model_is_simulated),
    )
