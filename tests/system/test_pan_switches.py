"""Whatever the unsettled facts about PAN-OS turn out to be, ``pan_instcert`` neither claims a success nor crashes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Callable

import pytest

from certhooks_pan import target
from tests.lab.panos import Firewall, Switches, custom_role
from tests.lab.pushes import NAME, brisk, imports, write
from tests.lab.site import Done, Site

if TYPE_CHECKING:
    from tests.lab.ca import Issued

Scenario = Callable[[Site, Switches], Done]
WORDS = ("-c", NAME, "-p", "GP_PORTAL")


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often and give up soon: an emulator is quick."""
    brisk(monkeypatch)
    monkeypatch.setattr(target, "_SYNCHRONIZED", 0.5)


def pushed(site: Site, switches: Switches, *words: str, set_up: Callable[[Firewall], object] = id) -> Done:
    """Push a pair with an intermediate to a firewall, and hold what is said against what is there."""
    fw = site.firewall(switches=switches)
    issued = write(site, site.ca.intermediate("Middle CA").issue(NAME))
    return checked(site, fw, issued, *words, set_up=set_up)


def checked(site: Site, fw: Firewall, issued: Issued, *words: str, set_up: Callable[[Firewall], object] = id) -> Done:
    """Push to a firewall; a success must be one there, and a failure must leave what was in use."""
    set_up(fw)
    done = site.instcert(*WORDS, *words, fw)
    if done.code == 0:
        assert fw.certificate(NAME, running=True) == issued.certificate
        assert fw.key_of(NAME, running=True)
        assert fw.profile_certificate("GP_PORTAL") == NAME
    else:
        assert fw.profile_certificate("GP_PORTAL") == fw.profile_certificate("GP_PORTAL", running=False) == "old"
    assert not fw.pending_of("certhooks")
    assert not {category for category, _ in imports(fw)} - {"certificate", "keypair"}
    return done


def with_words(*words: str) -> Scenario:
    """Push with further options."""
    return lambda site, switches: pushed(site, switches, *words)


def with_file(**settings: Any) -> Scenario:
    """Push a certificate with something odd about it."""

    def run(site: Site, switches: Switches) -> Done:
        return checked(site, site.firewall(switches=switches), site.certificate(**settings))

    return run


def mismatched(site: Site, switches: Switches) -> Done:
    """Push files whose halves belong to different certificates."""
    fw = site.firewall(switches=switches)
    issued = site.certificate()
    (site.folder / f"{NAME}.key").write_bytes(site.ca.issue(NAME).key_pem)
    return checked(site, fw, issued)


def text_before(site: Site, switches: Switches) -> Done:
    """Push files that begin with text, as ``openssl pkcs12`` writes them."""
    fw = site.firewall(switches=switches)
    issued = site.certificate()
    for file in site.folder.glob(f"{NAME}.*"):
        file.write_bytes(b"Bag Attributes\n    localKeyID: 01\n" + file.read_bytes())
    return checked(site, fw, issued)


def twice(site: Site, switches: Switches) -> Done:
    """Push, and push the same again by force."""
    fw = site.firewall(switches=switches)
    issued = site.certificate()
    assert checked(site, fw, issued).code == 0
    return checked(site, fw, issued, "--force")


def without_right(site: Site, switches: Switches) -> Done:
    """Push with a key whose role does not see certificates."""

    def hide(fw: Firewall) -> None:
        fw.admins["certhooks"].role = custom_role(hidden=("/config/shared/certificate",))

    return pushed(site, switches, set_up=hide)


def forgetful(site: Site, switches: Switches) -> Done:
    """Push to a device that forgets its jobs when they have ended."""

    def forget(fw: Firewall) -> None:
        enqueue = fw.enqueue

        def once(*args: Any, **more: Any) -> Any:
            job = enqueue(*args, **more)
            fw.finish_jobs()
            fw.jobs.clear()
            return job

        fw.enqueue = once  # type: ignore[method-assign]  # one device of one test

    return pushed(site, switches, set_up=forget)


def to_passive(site: Site, switches: Switches) -> Done:
    """Push to the passive unit alone."""
    active = site.firewall(serial="0070001")
    return pushed(site, switches, set_up=active.pair_with)


def pruned(site: Site, switches: Switches) -> Done:
    """Push and remove a predecessor; what is said to be gone must be."""
    fw = site.firewall(switches=switches)
    fw.add_certificate(f"{NAME}_2019", site.ca.issue(NAME))
    done = checked(site, fw, site.certificate(), "--prune")
    assert ("pruned" in done.out) == (fw.entry(f"{NAME}_2019", running=True) is None)
    assert ("2019 stays" in done.err) == (fw.entry(f"{NAME}_2019", running=True) is not None)
    return done


def to_template(*words: str, template: str = "T") -> Scenario:
    """Push into a Panorama's template."""

    def run(site: Site, switches: Switches) -> Done:
        pano = site.panorama(switches=switches)
        pano.add_template("T")
        vsys = words[1] if "--vsys" in words else ""
        place = pano.template_path("T", vsys=vsys)
        pano.add_profile("GP_PORTAL", certificate="old", below=place)
        fw = site.firewall()
        pano.add_stack("S", templates=["T"], devices=[fw.serial])
        pano.attach(fw)
        issued = site.certificate()
        done = site.instcert(*WORDS, "--template", template, *words, pano)
        there = pano.certificate(NAME, running=True, below=place)
        assert (there == issued.certificate) == (done.code == 0)
        if "--push" in words:
            assert (fw.certificate(NAME, running=True) == issued.certificate) == (done.code == 0)
        assert pano.entry(NAME, below=pano.template_path("other")) is None
        assert not pano.pending_of("certhooks")
        return done

    return run


PUSHED = with_words()
MODERN, OLD = with_words("--format", "pkcs12-modern"), with_words("--format", "pkcs12")

CASES: list[tuple[dict[str, Any], Scenario, int]] = [
    ({"passphrase_maximum": 30}, PUSHED, 0),
    ({"passphrase_maximum": 29}, PUSHED, 12),
    ({"passphrase_too_long": "too long", "passphrase_maximum": 8}, PUSHED, 12),
    ({"pbes2_in_pkcs12": False}, MODERN, 12),
    ({"pbes2_in_pkcs12": False}, OLD, 0),
    *(({"pkcs12_chain": way}, OLD, 0) for way in ("refuse", "entries", "ignore")),
    *(({"pem_chain": way}, PUSHED, 0) for way in ("refuse", "ignore")),
    ({"wrong_passphrase": "bad decrypt", "pbes2_in_pkcs12": False}, MODERN, 12),
    ({"key_mismatch": "no"}, mismatched, 10),
    ({"key_for_missing_certificate": "no"}, PUSHED, 0),
    *(({"private_key_does_not_fit": way}, mismatched, 10) for way in ("refuse", "accept")),
    *(({"text_before_begin": way}, text_before, 0) for way in ("refuse", "accept")),
    ({"begin_tag_errors": 1}, PUSHED, 0),
    ({"begin_tag_errors": 9}, PUSHED, 12),
    ({"key_for_csr_errors": 1}, PUSHED, 12),
    *(({"identical_import_is_change": way}, twice, 0) for way in (False, True)),
    *(({"expired_refused": way}, with_file(days=0.01), 10) for way in (False, True)),
    *(({"unauth_http_status": status}, without_right, 5) for status in (200, 403)),
    ({"field_order": "other"}, PUSHED, 0),
    *(({"job_not_found_code": way}, forgetful, 0) for way in (False, True)),
    ({"commit_description": "refuse"}, PUSHED, 0),
    ({"description_maximum": 5}, PUSHED, 0),
    ({"partial_needs_action": True}, PUSHED, 0),
    ({"commit_locks_vsys": False}, PUSHED, 0),
    *(({"no_changes": way, "identical_import_is_change": False}, twice, 0) for way in ("19", "13")),
    *(({"common_name_required": way}, with_file(common_name=""), 10) for way in (False, True)),
    ({"profile_without_key": "refuse"}, PUSHED, 0),
    *(({"passive_refuses_writes": way}, to_passive, 12) for way in (False, True)),
    *(({"target_tpl_vsys_ignored": way}, to_template("--vsys", "vsys1"), 0) for way in (False, True)),
    *(({"import_creates_template": way}, to_template(template="other"), 2) for way in (False, True)),
    ({"session_timeout_errors": 2}, PUSHED, 0),
    ({"progress_date_on_finish": True}, PUSHED, 0),
    ({"failed_job_listed": True}, PUSHED, 0),
    ({"push_reply": "Push job"}, to_template("--push"), 0),
    ({"changes_by_scope": True}, PUSHED, 0),
    ({"delete_seven": 1}, pruned, 0),
    ({"delete_seven": 9}, pruned, 0),
]


def _named(values: dict[str, Any]) -> str:
    name, value = next(iter(values.items()))
    return f"{name}={str(value).replace(' ', '_')}"


def test_every_switch_is_tried() -> None:
    """A switch that is added to the emulator needs its line in this file."""
    assert {next(iter(values)) for values, _, _ in CASES} == {field.name for field in dataclasses.fields(Switches)}


@pytest.mark.parametrize(("values", "scenario", "code"), CASES, ids=[_named(values) for values, _, _ in CASES])
def test_switch(site: Site, values: dict[str, Any], scenario: Scenario, code: int) -> None:
    """With each answer to an open question: a success that is one, or a failure with its code and one clear line."""
    done = scenario(site, Switches(**values))
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert "fault of our own" not in done.err
    if code:
        assert done.err.count("error:") == 1
    refusal = next((text for text in values.values() if isinstance(text, str) and " " in text), "")
    if code == 12:
        assert refusal in done.err
