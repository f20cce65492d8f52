"""What ``pan_instcert`` brings to a firewall, beyond the plain push: against an emulated one, in this process."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Callable, Optional

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certhooks import probe
from certhooks.address import Address
from tests.lab.ca import CA
from tests.lab.panos import Fault, Firewall, Outcome, certificates, replies
from tests.lab.pushes import NAME, attempt, imports, managed, write

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tests.lab.panos import Admin
    from tests.lab.panos.tree import Takes
    from tests.lab.site import Site

pytestmark = pytest.mark.usefixtures("brisk")
PORTAL = ("-c", NAME, "-p", "GP_PORTAL")


# -- what travels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["pem", "pkcs12", "pkcs12-modern"])
def test_a_pair_travels_as_the_leaf_alone_under_a_short_passphrase(site: Site, fw: Firewall, file_format: str) -> None:
    """In every format one import brings key and leaf, no chain, and a passphrase that the strictest device takes."""
    issued = write(site, site.ca.intermediate().issue(NAME))
    assert site.instcert(*PORTAL, "--format", file_format, fw).code == 0
    (request,) = [r for r in fw.requests if r.params.get("category") == "keypair"]
    read = certificates.read_pem if file_format == "pem" else certificates.read_pkcs12
    assert request.file is not None
    material = read(request.file, request.params["passphrase"])
    assert (material.leaf, material.chain) == (issued.certificate, ())
    assert 8 <= len(request.params["passphrase"]) <= 31
    assert request.params["passphrase"].isalnum()
    assert certificates.uses_pbes2(request.file) == (file_format == "pkcs12-modern")
    assert fw.key_of(NAME, running=True) == issued.key_pem
    assert fw.profile_certificate("GP_PORTAL") == NAME


def test_a_refused_format_is_a_clear_error_and_leaves_nothing(site: Site, fw: Firewall) -> None:
    """A device that cannot read modern PKCS#12 gives exit code 12 with its words, and keeps its configuration."""
    fw.switches.pbes2_in_pkcs12 = False
    site.certificate()
    before = fw.snapshot()
    done = site.instcert(*PORTAL, "--format", "pkcs12-modern", fw)
    assert done.code == 12
    assert "Failed to decrypt private key" in done.err
    assert fw.snapshot() == before
    assert site.instcert(*PORTAL, "--format", "pkcs12", fw).code == 0


def without_key(entry: Element) -> Element:
    """Return an entry as it is when its key got lost."""
    key = entry.find("private-key")
    assert key is not None
    entry.remove(key)
    return entry


def another(entry: Element) -> Element:
    """Return an entry with the same name and key, and somebody else's certificate."""
    text = entry.find("public-key")
    assert text is not None
    text.text = certificates.pem(CA("Other").issue(NAME).certificate)
    return entry


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (lambda _: None, "does not hold it"),
        (another, "does not hold it"),
        (without_key, "without its private key"),
    ],
    ids=["nothing", "another certificate", "no key"],
)
def test_an_import_is_believed_when_it_is_read_back(
    site: Site,
    fw: Firewall,
    monkeypatch: pytest.MonkeyPatch,
    spoiled: Callable[[Element], Optional[Element]],
    said: str,
) -> None:
    """The device says "Successfully imported" and holds something else: exit code 12, nothing bound or committed."""
    store = fw._store

    def stored(place: str, entry: Element, admin: Admin) -> None:
        instead = spoiled(entry)
        if instead is not None:
            store(place, instead, admin)

    site.certificate()
    before = fw.snapshot()
    with monkeypatch.context() as patched:
        patched.setattr(fw, "_store", stored)
        done = site.instcert(*PORTAL, fw)
    assert imports(fw) == [("keypair", NAME)]
    assert done.code == 12, done
    assert said in done.err
    assert not fw.count("config set")
    assert not fw.jobs
    assert fw.snapshot() == before
    assert attempt(site)["outcome"] == "undone"
    assert site.instcert(*PORTAL, fw).code == 0


@pytest.mark.parametrize("bound", [True, False])
def test_a_certificate_without_its_key_is_not_taken_for_installed(site: Site, fw: Firewall, *, bound: bool) -> None:
    """The same certificate that somebody has imported alone under our name: the pair is imported over it."""
    issued = site.certificate()
    fw.config.put("/config/shared/certificate", certificates.entry(NAME, certificates.fields(issued.certificate)))
    if bound:
        fw.add_profile("GP_PORTAL", certificate=NAME)
    assert fw.certificate(NAME, running=True) == issued.certificate
    done = site.instcert(*PORTAL, fw)
    assert done.code == 0, done
    assert "nothing to do" not in done.out
    assert imports(fw) == [("keypair", NAME)]
    assert fw.key_of(NAME, running=True) == issued.key_pem
    assert "nothing to do" in site.instcert(*PORTAL, fw).out


def test_intermediates_come_as_entries_of_their_own(site: Site, fw: Firewall) -> None:
    """What the device lacks of the chain is imported, the root is not; a second run imports nothing."""
    middle = site.ca.intermediate("Upper CA")
    write(site, middle.intermediate("Lower CA").issue(NAME), site.ca)
    assert site.instcert(*PORTAL, fw).code == 0
    categories = [category for category, _ in imports(fw)]
    assert categories == ["certificate", "certificate", "keypair"]
    assert [name.rpartition("_")[0] for _, name in imports(fw)[:2]] == ["Lower-CA", "Upper-CA"]
    assert fw.certificate(imports(fw)[1][1], running=True) == middle.certificate
    assert "nothing to do" in site.instcert(*PORTAL, fw).out
    assert len(imports(fw)) == 3


def test_an_intermediate_is_recognized_by_certificate_not_by_name(site: Site, fw: Firewall) -> None:
    """The same CA under any name is not imported again; another CA under its name does not count."""
    middle = site.ca.intermediate("Middle CA")
    other = CA("Middle CA")
    for name, ca in (("whatever", middle), ("Middle-CA", other), ("Middle CA", other)):
        fw.config.put("/config/shared/certificate", certificates.entry(name, certificates.fields(ca.certificate)))
    write(site, middle.issue(NAME))
    assert site.instcert(*PORTAL, fw).code == 0
    assert imports(fw) == [("keypair", NAME)]
    write(site, CA("Third Root").intermediate("Middle CA").issue(NAME))
    assert site.instcert(*PORTAL, fw).code == 0
    assert [category for category, _ in imports(fw)] == ["keypair", "certificate", "keypair"]


def test_a_vsys_does_not_get_what_shared_has(site: Site, fw: Firewall) -> None:
    """An intermediate that stands in shared is not imported into a vsys again."""
    middle = site.ca.intermediate("Middle CA")
    fw.config.put("/config/shared/certificate", certificates.entry("mid", certificates.fields(middle.certificate)))
    fw.add_profile("VP", certificate="vold", vsys="vsys1")
    issued = write(site, middle.issue(NAME))
    assert site.instcert("-c", NAME, "-p", "VP", "--vsys", "vsys1", fw).code == 0
    assert imports(fw) == [("keypair", NAME)]
    assert fw.certificate(NAME, running=True, vsys="vsys1") == issued.certificate
    assert fw.certificate(NAME) is None
    assert fw.profile_certificate("VP", vsys="vsys1") == NAME


def test_trust_root_imports_and_trusts_it_once(site: Site, fw: Firewall) -> None:
    """--trust-root brings the root and makes it trusted; again it does nothing, and without the option not at all."""
    write(site, site.ca.issue(NAME), site.ca)
    assert site.instcert(*PORTAL, "--trust-root", fw).code == 0
    (root,) = [name for category, name in imports(fw) if category == "certificate"]
    (listed,) = fw.config.find_running("/config/shared/ssl-decrypt/trusted-root-CA")
    assert [member.text for member in listed] == [root]
    assert fw.certificate(root, running=True) == site.ca.certificate
    sent = len(imports(fw))
    assert "nothing to do" in site.instcert(*PORTAL, "--trust-root", fw).out
    assert len(imports(fw)) == sent


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "x" * 64], "64 characters, 63 are allowed"),
        (["-n", "x" * 59, "-Y"], "64 characters, 63 are allowed"),
        (["-n", "_x"], "not a certificate name"),
        (["-n", "x'or'"], "not a certificate name"),
        (["-p", "GP'] | //*"], "not a profile name"),
        (["-p", "GP_PORTL"], "there are: GP_GATEWAY, GP_PORTAL"),
        (["--vsys", "vsys9"], "no vsys vsys9"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_sent(site: Site, fw: Firewall, words: list[str], said: str) -> None:
    """A name that the device would refuse, or that it does not have, ends in exit code 2; nothing changes there."""
    site.certificate()
    before = fw.snapshot()
    done = site.instcert("-c", NAME, *words, fw)
    assert done.code == 2, done
    assert said in done.err
    assert fw.snapshot() == before
    assert not fw.count("import")


def test_profiles_may_have_blanks_and_dots(site: Site, fw: Firewall) -> None:
    """A profile called ``Corp. GP (no parentheses)`` or the like is found and bound."""
    fw.add_profile("Corp. GP 1.2", certificate="old")
    site.certificate()
    assert site.instcert("-c", NAME, "-p", "Corp. GP 1.2", fw).code == 0
    assert fw.profile_certificate("Corp. GP 1.2") == NAME


def test_the_year_is_that_of_the_certificate(site: Site, fw: Firewall) -> None:
    """-Y appends the year in which the certificate begins, so that a later run finds the same name."""
    start = datetime(2025, 12, 31, 23, 0, tzinfo=timezone.utc)
    site.certificate(not_before=start, days=3650)
    assert site.instcert(*PORTAL, "-Y", fw).code == 0
    assert fw.profile_certificate("GP_PORTAL") == f"{NAME}_2025"


# -- the management certificate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_management_certificate_survives_the_restart_of_its_web_server(
    site: Site, fw: Firewall, after: int
) -> None:
    """Refused connections, 502 and "Invalid credentials." in mid-commit or just after it are waited out."""
    managed(site, fw)
    fw.restart.after = after
    issued = write(site, site.ca.issue([NAME, "localhost"]))
    done = site.instcert("-c", NAME, "-p", "WEB", fw)
    assert done.code == 0, done
    assert fw.restarts == 1
    assert fw.served() == issued.certificate
    assert f"served by localhost:{fw.port}" in done.out


def test_a_management_certificate_must_cover_the_devices_name(site: Site, fw: Firewall) -> None:
    """A leaf without the name that the device is managed by would lock us out: 10, nothing sent, unless --force."""
    managed(site, fw)
    before = fw.snapshot()
    issued = site.certificate()
    done = site.instcert("-c", NAME, "-p", "WEB", "--timeout", "5", fw)
    assert (done.code, "does not cover localhost" in done.err) == (10, True)
    assert fw.snapshot() == before
    fw.restart.refuse = fw.restart.bad_gateway = 0
    fw.restart.invalid_credentials = 0
    site.instcert("-c", NAME, "-p", "WEB", "--force", "--timeout", "1", fw)
    assert fw.served() == issued.certificate


def test_replacing_the_management_certificate_in_place_is_noticed(site: Site, fw: Firewall) -> None:
    """No -p, but the name that the management profile uses: the same care, and the handshake proves it."""
    managed(site, fw, certificate=NAME)
    site.certificate()
    assert site.instcert("-c", NAME, "--timeout", "5", fw).code == 10
    issued = write(site, site.ca.issue([NAME, "localhost"]))
    done = site.instcert("-c", NAME, fw)
    assert done.code == 0, done
    assert "served by" in done.out
    assert fw.served() == issued.certificate


# -- verification and the way back -----------------------------------------------------------------------------------


def test_a_portal_that_goes_on_with_the_old_one_gets_the_old_binding_back(site: Site, fw: Firewall) -> None:
    """With -Y the old certificate still exists: bound and committed again, exit code 15, the portal serves it."""
    old = fw.certificate("old")
    assert old is not None
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 15, done
    assert "the previous certificate is back" in done.err
    assert fw.profile_certificate("GP_PORTAL") == fw.profile_certificate("GP_PORTAL", running=False) == "old"
    assert not fw.pending_of("certhooks")
    assert attempt(site)["outcome"] == "undone"
    portal.stuck = None
    (served,) = [each for each in probe.every(Address("localhost", portal.port)) if each.der]
    assert served.der == old.public_bytes(Encoding.DER)


def test_what_replaced_its_predecessor_in_place_stays_and_says_so(site: Site, fw: Firewall) -> None:
    """Without -Y there is nothing to go back to: exit code 14, told why, and the journal keeps it as failed."""
    site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    issued = site.certificate()
    done = site.instcert(*PORTAL, "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 14, done
    assert "cannot be put back" in done.err
    assert attempt(site)["outcome"] == "failed"
    assert fw.certificate(NAME, running=True) == issued.certificate


def nothing_comes_of_commit(fw: Firewall, nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one commit end well by the device's word, and change nothing that is running."""
    committed, number = fw.config.committed, itertools.count(1)

    def ended(tree: Element, takes: Takes) -> None:
        if next(number) != nth:
            committed(tree, takes)

    monkeypatch.setattr(fw.config, "committed", ended)


def test_a_way_back_that_the_device_only_claims_is_not_called_one(
    site: Site, fw: Firewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second commit is OK and the new binding goes on running: exit code 14 with a warning, never 15."""
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    site.certificate()
    nothing_comes_of_commit(fw, 2, monkeypatch)
    done = site.instcert(*PORTAL, "-Y", "--probe", f"localhost:{portal.port}", fw)
    assert [job.result for job in fw.jobs.values()] == ["OK", "OK"]
    assert (fw.profile_certificate("GP_PORTAL") or "").startswith(f"{NAME}_")
    assert done.code == 14, done
    assert "could not be taken back" in done.err
    assert "its profiles still use" in done.err
    assert attempt(site)["outcome"] == "failed"


@pytest.mark.parametrize("told", [True, False])
def test_a_way_back_that_fails_is_not_called_one(site: Site, fw: Firewall, *, told: bool) -> None:
    """When the commit of the old binding fails, or does nothing, it is exit code 14 with a warning, never 15."""
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    if told:
        fw.next_commits += [Outcome(), Outcome(fail=("Commit failed",))]
    else:
        fw.faults.add(Fault.RAW, type="commit", nth=2, reply=replies.NO_CHANGES)
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--probe", f"localhost:{portal.port}", fw)
    assert done.code == 14, done
    assert "could not be taken back" in done.err
    assert attempt(site)["outcome"] == "failed"


def test_installed_and_not_served_is_a_failure(site: Site, fw: Firewall) -> None:
    """Nothing differs in the configuration, the probed portal goes on with the old one: not 0, and nothing is lost."""
    portal = fw.add_portal("GP_PORTAL")
    portal.stick()
    issued = site.certificate()
    assert site.instcert(*PORTAL, fw).code == 0
    probed = (*PORTAL, "--probe", f"localhost:{portal.port}", fw)
    done = site.instcert(*probed)
    assert done.code == 14, done
    assert "does not serve the new certificate" in done.err
    assert fw.profile_certificate("GP_PORTAL") == NAME
    portal.stuck = None
    assert "nothing to do" in site.instcert(*probed).out
    assert fw.certificate(NAME, running=True) == issued.certificate


# -- prune -----------------------------------------------------------------------------------------------------------


def test_prune_removes_unused_predecessors_and_nothing_else(site: Site, fw: Firewall) -> None:
    """NAME_YYYY with the same common name goes unless something uses it, which is told; every other one stays."""
    for year in (2021, 2022, 2023):
        fw.add_certificate(f"{NAME}_{year}", site.ca.issue(NAME))
    fw.add_profile("OTHER", certificate=f"{NAME}_2022")
    kept = [f"{NAME}_20233", f"x{NAME}_2021", f"{NAME}_old", NAME, "vpn_2021"]
    for name in kept:
        fw.add_certificate(name, site.ca.issue(NAME))
    fw.add_certificate(f"{NAME}_2020", site.ca.issue("elsewhere.example.test"))
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--prune", fw)
    assert done.code == 0, done
    assert f"pruned {NAME}_2021" in done.out
    assert f"{NAME}_2022 stays" in done.err
    for year, there in ((2020, True), (2021, False), (2022, True), (2023, False)):
        assert (fw.entry(f"{NAME}_{year}", running=True) is not None) == there
    assert all(fw.entry(name, running=True) is not None for name in kept)
    assert not fw.pending_of("certhooks")


def test_a_prune_that_fails_leaves_a_success(site: Site, fw: Firewall) -> None:
    """The certificate is in use: a commit of the deletions that fails is a remark, and they are taken back."""
    fw.add_certificate(f"{NAME}_2021", site.ca.issue(NAME))
    fw.next_commits += [Outcome(), Outcome(fail=("Commit failed",))]
    site.certificate()
    done = site.instcert(*PORTAL, "-Y", "--prune", fw)
    assert done.code == 0, done
    assert "could not prune" in done.err
    assert fw.entry(f"{NAME}_2021") is not None
    assert not fw.pending_of("certhooks")


def test_a_prune_that_the_device_only_claims_is_not_told(
    site: Site, fw: Firewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit of the deletion is OK and the certificate goes on running: nobody is told that it is gone."""
    fw.add_certificate(f"{NAME}_2021", site.ca.issue(NAME))
    site.certificate()
    nothing_comes_of_commit(fw, 2, monkeypatch)
    done = site.instcert(*PORTAL, "-Y", "--prune", "--json", fw)
    assert done.code == 0, done
    assert [job.result for job in fw.jobs.values()] == ["OK", "OK"]
    assert fw.entry(f"{NAME}_2021", running=True) is not None
    assert json.loads(done.out)["pruned"] == []


def test_without_prune_predecessors_stay(site: Site, fw: Firewall) -> None:
    """Nothing is deleted that nobody asked to delete."""
    fw.add_certificate(f"{NAME}_2021", site.ca.issue(NAME))
    site.certificate()
    assert site.instcert(*PORTAL, "-Y", fw).code == 0
    assert fw.entry(f"{NAME}_2021", running=True) is not None
    assert not fw.count("config delete")
