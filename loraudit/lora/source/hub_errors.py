"""Errors of the Hub's client, in one line of plain words each."""

from collections.abc import Iterator
from contextlib import contextmanager

from loraudit.errors import LorauditError
from loraudit.lora.source.address import HubSpec
from loraudit.text import clean

__all__ = ["explained", "not_a_hub", "not_cached", "plain_errors"]


def not_a_hub() -> LorauditError:
    """Make the error for an answer that no Hub gives."""
    return LorauditError(
        "the server does not answer as the Hub does", "check HF_ENDPOINT, proxy and firewall"
    )


def not_cached(spec: HubSpec) -> LorauditError:
    """Make the error for a file that the cache lacks while the network is off."""
    what = f"{spec.repo}/{spec.path}" if spec.path else spec.repo
    return LorauditError(
        f"{clean(what, 300)} is not in the Hub cache, and the network is off",
        "leave out --offline and HF_HUB_OFFLINE once, or give a local file",
    )


@contextmanager
def plain_errors(spec: HubSpec, offline: bool) -> Iterator[None]:
    """Turn what the Hub's client raises into a `LorauditError`; an `OSError` of the system passes through."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, XetDownloadError
    from huggingface_hub.utils import httpx, logging  # type: ignore[attr-defined]

    # The client warns of every try before it gives up, and its giving up is one error here.
    logging.get_logger().setLevel("ERROR")
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise (not_cached(spec) if offline else explained(spec, error.__cause__)) from None
    except (HfHubHTTPError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise explained(spec, error) from None
    except (OSError, XetDownloadError) as error:
        if isinstance(error, OSError) and error.strerror is not None:
            raise
        raise LorauditError(f"the download from {spec.repo} did not come through", "try again") from None
    except (ValueError, KeyError, TypeError):
        raise not_a_hub() from None


def explained(spec: HubSpec, error: BaseException | None) -> LorauditError:
    """Put `error` in plain words; None: the Hub cannot be reached."""
    from huggingface_hub.errors import (
        FileMetadataError,
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return LorauditError(
                f"{spec.repo} is gated", "ask for access on its page, then set HF_TOKEN to a token of yours"
            )
        case RepositoryNotFoundError():
            return LorauditError(
                f"no such repository on the Hub, nor a local path: {spec.repo}",
                "check the name; a private repository needs HF_TOKEN",
            )
        case RevisionNotFoundError():
            return LorauditError(f"{spec.repo} has no revision {spec.revision}", "check the part after @")
        case RemoteEntryNotFoundError():
            return LorauditError(f"{spec.repo} has no file {clean(spec.path, 300)}", "check the path")
        case FileMetadataError():
            return not_a_hub()
        case HfHubHTTPError() if error.response.status_code in {401, 403}:
            return LorauditError(f"the Hub refuses access to {spec.repo}", "check HF_TOKEN")
        case HfHubHTTPError():
            return LorauditError(
                f"the Hub answers with status {error.response.status_code} for {spec.repo}", "try again later"
            )
    return LorauditError(
        f"the Hub cannot be reached for {spec.repo}", "check the network; --offline uses the Hub cache alone"
    )
