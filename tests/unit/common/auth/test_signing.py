import pytest
from jose import jwt

from common.auth.signing import generate_signing_key, public_jwk, sign_access_token, unlock
from tests.fakes import PASSPHRASE, shared_key


class TestSigningKeys:
    def test_are_kept_encrypted_and_open_with_the_passphrase_alone(self) -> None:
        locked = generate_signing_key(passphrase=PASSPHRASE)

        assert "ENCRYPTED" in locked.private_pem
        assert "ENCRYPTED" not in unlock(locked, passphrase=PASSPHRASE).private_pem
        with pytest.raises(ValueError, match="password"):
            unlock(locked, passphrase="another passphrase")

    def test_publish_nothing_private(self) -> None:
        assert set(public_jwk(shared_key())) == {"kty", "n", "e", "kid", "use", "alg"}

    def test_sign_tokens_that_name_key_and_type(self) -> None:
        token = sign_access_token({"sub": "x"}, shared_key())

        assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": shared_key().kid, "typ": "at+jwt"}
        assert jwt.decode(token, public_jwk(shared_key()), algorithms=["RS256"]) == {"sub": "x"}
