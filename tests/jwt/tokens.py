"""Random tokens, valid and broken, and what jwcrypto says of each: a line of JSON per token."""

import json
import random
import sys

from jwcrypto import jwk, jws, jwt
from jwcrypto.common import base64url_decode, base64url_encode

NOW = 1_700_000_000
ALGORITHMS = {
    "HS256": ("oct", {"size": 256}),
    "HS384": ("oct", {"size": 384}),
    "HS512": ("oct", {"size": 512}),
    "RS256": ("RSA", {"size": 2048}),
    "RS384": ("RSA", {"size": 2048}),
    "RS512": ("RSA", {"size": 3072}),
    "PS256": ("RSA", {"size": 2048}),
    "PS384": ("RSA", {"size": 2048}),
    "PS512": ("RSA", {"size": 3072}),
    "ES256": ("EC", {"crv": "P-256"}),
    "ES384": ("EC", {"crv": "P-384"}),
    "ES512": ("EC", {"crv": "P-521"}),
    "EdDSA": ("OKP", {"crv": "Ed25519"}),
}


def flipped(part, rng):
    """One bit of a part is another."""
    data = bytearray(base64url_decode(part))
    if not data:
        return base64url_encode(b"x")
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return base64url_encode(bytes(data))


def broken(token, other, rng):
    """A token as somebody without the key may make it."""
    header, payload, signature = token.split(".")
    way = rng.randrange(8)
    if way == 0:
        return f"{header}.{flipped(payload, rng)}.{signature}"
    if way == 1:
        return f"{header}.{payload}.{flipped(signature, rng)}"
    if way == 2:
        return f"{header}.{payload}."
    if way == 3:
        return f"{header}.{payload}.{other.split('.')[2]}"
    if way == 4:
        none = base64url_encode(json.dumps({"alg": "none"}))
        return f"{none}.{payload}."
    if way == 5:
        changed = json.loads(base64url_decode(header))
        changed["alg"] = rng.choice([name for name in ALGORITHMS if name != changed["alg"]])
        return f"{base64url_encode(json.dumps(changed))}.{payload}.{signature}"
    if way == 6:
        changed = dict(json.loads(base64url_decode(header)), crit=["x"], x=1)
        return f"{base64url_encode(json.dumps(changed))}.{payload}.{signature}"
    return f"{header}.{payload}"


def claims(rng):
    return {
        "iss": "https://idp",
        "sub": "ann",
        "aud": rng.choice(["orders", ["x", "orders"]]),
        "exp": NOW + rng.choice([100, 1000, -1000, -100]),
        "nbf": NOW + rng.choice([0, -100, 100, 1000]),
        "n": rng.randrange(1 << 40),
    }


def is_taken(token, key, algorithm):
    try:
        jwt.JWT(
            jwt=token,
            key=key,
            algs=[algorithm],
            check_claims={"iss": "https://idp", "aud": "orders", "exp": NOW, "nbf": NOW},
        )
        return True
    except (jwt.JWException, jws.JWException, ValueError, TypeError, KeyError, AttributeError):
        return False


def main(count, seed):
    rng = random.Random(seed)
    keys = {}
    for algorithm, (kind, more) in ALGORITHMS.items():
        keys[algorithm] = jwk.JWK.generate(kty=kind, **more)
    last = None
    for _ in range(count):
        algorithm = rng.choice(list(ALGORITHMS))
        key = keys[algorithm]
        made = jwt.JWT(header={"alg": algorithm}, claims=claims(rng))
        made.make_signed_token(key)
        token = made.serialize()
        shown = broken(token, last or token, rng) if rng.random() < 0.5 else token
        last = token
        public = key.export(as_dict=True) if algorithm.startswith("HS") else key.export_public(as_dict=True)
        print(json.dumps({"alg": algorithm, "key": public, "token": shown, "taken": is_taken(shown, key, algorithm)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
