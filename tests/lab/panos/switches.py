"""Everything about PAN-OS that nobody has settled, as switches, so that a client can be tried with every answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Switches:
    """What a device does where the sources are silent or disagree; the default is what was seen most.

    Attributes:
        passphrase_maximum: longest passphrase of an import, in characters. Believed to be 31, no source.
        passphrase_too_long: text of that refusal (``{length}``), no source.
        pbes2_in_pkcs12: take a PKCS#12 whose bags are encrypted with PBES2 (AES). Not known for any version.
        pkcs12_chain: ``ignore`` the CA certificates of a PKCS#12 (seen by most), ``refuse`` the upload as a key that
            does not fit (one user, 10.x and 11.x), or keep them as ``entries`` of their own (claimed, never shown).
        pem_chain: certificates after the leaf in a PEM upload: kept ``in-entry`` with the leaf (one orchestrator calls
            it "certificate and chain installed"), ``ignore``, or ``refuse``.
        wrong_passphrase: text of the refusal when the key cannot be decrypted, no source.
        key_mismatch: text of the refusal of a keypair whose halves do not fit, no source.
        key_for_missing_certificate: text when ``private-key`` comes before its certificate, no source.
        private_key_does_not_fit: ``accept`` a private-key upload that does not fit the certificate (one user locked
            himself out so) or ``refuse`` it.
        text_before_begin: ``refuse`` a PEM with text before its first BEGIN tag, or ``accept`` it.
        begin_tag_errors: this many imports fail with the "begining" text although nothing is wrong (PAN-267847).
        key_for_csr_errors: this many imports of certificates fail with "private key doesn't exist
            for csr" (open bug, 10.1).
        identical_import_is_change: importing what is there already leaves marks and something to commit.
        expired_refused: refuse an expired certificate (text known, versions not).
        unauth_http_status: HTTP status of the reply with status ``unauth`` and code 16: 200 or 403.
        field_order: ``common-name``, ``subject`` and so on come in another order with ``other``.
        job_not_found_code: the reply for a job that is not known carries code 7.
        commit_description: ``accept`` a description or ``refuse`` it, as some versions do.
        description_maximum: characters of a description.
        partial_needs_action: refuse ``<partial>`` unless ``action=partial`` comes with it. Vendor pages send it,
            pan-os-python does not.
        commit_locks_vsys: ``show commit-locks`` knows ``<vsys>all</vsys>`` (9.1 and newer).
        no_changes: reply to an empty commit: ``role`` (superuser 19, others 13, as seen), ``19`` or ``13``.
        common_name_required: the commit refuses a certificate without a common name (hardware; PAN-321143).
        profile_without_key: a profile whose certificate has no private key: ``accept`` it at commit or ``refuse``.
        passive_refuses_writes: a passive HA unit answers code 15 to config, import and commit (vendor's table).
        target_tpl_vsys_ignored: PAN-257229: ``target-tpl-vsys`` has no effect, the import lands in the
            template's shared part.
        import_creates_template: an unknown ``target-tpl`` becomes a template (seen on 9.1.8).
        session_timeout_errors: this many polls of a job answer code 22 ``Session timed out``.
        progress_date_on_finish: finished jobs show a date as their progress, as auto-update jobs do.
        failed_job_listed: ``show jobs all`` has an entry of type ``Failed-Job`` without an id.
        push_reply: ``Job`` or ``Push job``: both beginnings of the reply to commit-all were recorded.
        changes_by_scope: ``show config list changes`` names the scope of a change (``/config/shared``) in place of the
            object. One list was recorded, with objects in it.
        delete_seven: this many deletes of what exists answer code 7 first (seen off and on for certificates).

    """

    passphrase_maximum: int = 31
    passphrase_too_long: str = "passphrase can be at most {maximum} characters, but current length: {length}"
    pbes2_in_pkcs12: bool = True
    pkcs12_chain: str = "ignore"
    pem_chain: str = "in-entry"
    wrong_passphrase: str = "Import of {what}{name} failed. Failed to decrypt private key with the passphrase"
    key_mismatch: str = "Import of {what}{name} failed. Public key and private key do not match"
    key_for_missing_certificate: str = "Import of {what}{name} failed. Certificate {name} does not exist"
    private_key_does_not_fit: str = "accept"
    text_before_begin: str = "refuse"
    begin_tag_errors: int = 0
    key_for_csr_errors: int = 0
    identical_import_is_change: bool = True
    expired_refused: bool = True
    unauth_http_status: int = 200
    field_order: str = "usual"
    job_not_found_code: bool = True
    commit_description: str = "accept"
    description_maximum: int = 255
    partial_needs_action: bool = False
    commit_locks_vsys: bool = True
    no_changes: str = "role"
    common_name_required: bool = True
    profile_without_key: str = "accept"
    passive_refuses_writes: bool = False
    target_tpl_vsys_ignored: bool = True
    import_creates_template: bool = True
    session_timeout_errors: int = 0
    progress_date_on_finish: bool = False
    failed_job_listed: bool = False
    push_reply: str = "Job"
    changes_by_scope: bool = False
    delete_seven: int = 0

    def use_up(self, name: str) -> bool:
        """Tell whether one more of a counted error is due, and count it."""
        left: int = getattr(self, name)
        if left > 0:
            setattr(self, name, left - 1)
        return left > 0
