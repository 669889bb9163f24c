"""An environment: the names made from its id, its three nginx files, its cache keys.

The same document the agent gets; docs/ANSIBLE.md lists its fields.
"""

import hashlib
import re
from collections import namedtuple
from urllib.parse import urlsplit

from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.tracking import canonical

# Longest URL that is taken, in bytes, and most URLs one purge may name.
URL_BYTES_MAX = 8 * 1024
PURGE_URLS_MAX = 10_000

# How a rendered file begins and where it says its generation and its probe secret.
GENERATION = re.compile(rb"\A# Written by Hostler for [^\n]*, generation ([0-9]+)\.\n")
SECRET = re.compile(rb'"effect:([0-9a-f]+)" effect;')
# What stands for the two in a rendered text until a file is written; no value can contain a brace.
GENERATION_PLACE = "{hostler_generation}"
SECRET_PLACE = "{hostler_secret}"


# A page as nginx sees it: host, request URI, scheme.
Page = namedtuple("Page", "host uri scheme")
SCHEMES = ("https", "http")


class Applied:
    """The configuration that is in the files: generation, probe secret, whether the cache is on, and
    whether the files know every kind of probe."""

    def __init__(self, generation, secret, enabled, current):
        self.generation = generation
        self.secret = secret
        self.enabled = enabled
        self.current = current


class Environment:
    """One environment document, checked."""

    def __init__(self, document):
        try:
            self.id = document["id"]
            self.domain = document["domain"]
            self.kind = document["kind"]
            self.docroot = document["docroot"]
            nginx = document["nginx"]
            self.files = [nginx["http_file"], nginx["server_file"], nginx["location_file"]]
            self.origin = Origin(nginx["probe_origin"])
            self.health = document["health"]
            health = (self.health["path"], self.health["status"], self.health["timeout_ms"])
        except (KeyError, TypeError) as error:
            raise Failure("SPEC_INVALID", f"the environment does not say {error}") from None
        self.fastcgi = document.get("fastcgi") or None
        self.redis = document.get("redis") or None
        if not re.fullmatch(r"env_[0-9a-z]+", self.id):
            raise Failure("SPEC_INVALID", f"`{self.id}` is no environment id")
        if self.kind not in ("php", "wordpress"):
            raise Failure("SPEC_INVALID", f"`{self.kind}` is neither `php` nor `wordpress`")
        if not str(health[0]).startswith("/"):
            raise Failure("SPEC_INVALID", "the health path does not begin with `/`")
        self._check_endings()

    def _check_endings(self):
        # What Hostler writes must never be something a web server or a shell would run.
        endings = [(path, ".conf") for path in self.files]
        if self.redis and self.redis.get("switch_file"):
            endings.append((self.redis["switch_file"], ".json"))
        for path, ending in endings:
            if not path.endswith(ending):
                raise Failure("SPEC_INVALID", f"`{path}` does not end in `{ending}`")

    def check_rendering(self):
        """Whether everything that goes into the nginx files may stand there."""
        fastcgi = self.fastcgi
        cache_dir = fastcgi["cache_dir"]
        if not re.fullmatch(r"[A-Za-z0-9/._\-+@~,]*", cache_dir):
            raise Failure("SPEC_INVALID", f"`{cache_dir}` cannot stand in an nginx configuration")
        if not re.fullmatch(r"[a-z0-9.\-]+", self.domain):
            raise Failure("SPEC_INVALID", f"`{self.domain}` is no lower-case host name")
        for key in ("zone_mib", "size_mib_max", "inactive_secs"):
            if int(fastcgi[key]) == 0:
                raise Failure("SPEC_INVALID", "a cache size or time is 0")
        KeyFormat(fastcgi["key_format"])

    @property
    def mark(self):
        """How every file of this environment begins."""
        return f"# Written by Hostler for {self.id}".encode()

    @property
    def generation_path(self):
        """Path of the generation probe."""
        return f"/.well-known/hostler/{self.id}/generation"

    def ours(self, data):
        """Whether a file's bytes are this environment's, or nothing."""
        return not data.strip() or data.startswith(self.mark)

    def applied(self, roots):
        """The configuration in the files; None when there is none."""
        contents = [roots.read(path) for path in self.files]
        if any(content is None or not content.data.startswith(self.mark) for content in contents):
            return None
        generation = GENERATION.match(contents[0].data)
        secret = SECRET.search(contents[0].data)
        if not generation or not secret:
            return None
        enabled = b"\nfastcgi_cache off;\n" not in contents[2].data
        current = b'"refresh:' in contents[0].data
        return Applied(int(generation.group(1)), secret.group(1).decode(), enabled, current)

    def untouched(self, roots):
        """Whether none of the files says anything of ours, so that a cache never toggled is off."""
        contents = [roots.read(path) for path in self.files]
        return not any(content and content.data.startswith(self.mark) for content in contents)

    def key(self, uri):
        """The key a request of ours for that URI is stored under."""
        key_format = KeyFormat(self.fastcgi["key_format"])
        return key_format.expand(self.origin.scheme, "GET", self.domain, canonical(uri))

    def declares(self, roots, cache_dir):
        """Whether our own http file already makes a directory this environment's cache."""
        content = roots.read(self.files[0])
        line = f"\nfastcgi_cache_path {cache_dir} ".encode()
        return content is not None and content.data.startswith(self.mark) and line in content.data


class Origin:
    """Where probes connect: `http://127.0.0.1:80`."""

    def __init__(self, text):
        wrong = Failure("SPEC_INVALID", f"`{text}` is no origin such as http://127.0.0.1")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise wrong
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise wrong
        self.text = text
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.port = port or (443 if self.scheme == "https" else 80)


class KeyFormat:
    """A cache key format: literals and four variables, all computable from a URL."""

    PART = re.compile(
        r"\$(request_method|request_uri|scheme|host)(?![A-Za-z0-9_])|([!#%&()*+,\-./0-9:<=>?@A-Z\[\]^_`a-z|~]+)"
    )

    def __init__(self, text):
        self.parts = []
        place = 0
        while place < len(text):
            part = self.PART.match(text, place)
            if not part:
                what = "uses a variable that cannot be computed from a URL"
                if text[place] != "$":
                    what = "contains a character that cannot stand in it"
                raise Failure("KEY_FORMAT_UNSUPPORTED", f"the key format `{text}` {what}")
            self.parts.append((part.group(1), part.group(2)))
            place = part.end()
        if not {"request_uri", "host"} <= {variable for variable, _ in self.parts}:
            what = "does not tell pages apart: it needs $host and $request_uri"
            raise Failure("KEY_FORMAT_UNSUPPORTED", f"the key format `{text}` {what}")

    def expand(self, scheme, method, host, uri):
        """The key of one request."""
        values = {"scheme": scheme, "request_method": method, "host": host, "request_uri": uri}
        text = "".join(literal or values[variable] for variable, literal in self.parts)
        return text.encode()

    def keys(self, page_, schemes=SCHEMES):
        """Every key a page may be stored under, each once: in these schemes, by GET and HEAD, with
        percent escapes in both spellings, with and without tracking arguments."""
        keys = []
        for spelled in _spellings(page_.uri):
            for scheme in schemes:
                for method in ("GET", "HEAD"):
                    key = self.expand(scheme, method, page_.host, spelled)
                    if key not in keys:
                        keys.append(key)
        return keys


def _spellings(uri):
    spelled = (uri, _escapes(uri, str.upper), _escapes(uri, str.lower))
    return [one for each in spelled for one in (canonical(each), each)]


def _escapes(uri, case):
    return re.sub("%[0-9A-Fa-f]{2}", lambda escape: case(escape.group()), uri)


def page(url):
    """An absolute URL as nginx sees it; None when it is none."""
    scheme, separator, rest = url.partition("://")
    if len(url.encode()) > URL_BYTES_MAX or not separator or scheme.lower() not in ("http", "https"):
        return None
    rest = rest.split("#", 1)[0]
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    authority, uri = rest[:end], rest[end:]
    host, _, port = authority.partition(":")
    if not authority or "@" in authority or not re.fullmatch("[0-9]*", port) or int(port or 0) > 65535:
        return None
    host = (host[:-1] if host.endswith(".") else host).lower()
    sent = "".join(
        chr(byte) if 33 <= byte <= 126 else f"%{byte:02X}" for byte in uri.encode("utf-8", "surrogateescape")
    )
    return Page(host, sent if sent.startswith("/") else f"/{sent}", scheme.lower()) if host else None


def pages(domain, urls):
    """The pages of a list of URLs, all of one domain."""
    if len(urls) > PURGE_URLS_MAX:
        message = f"{len(urls)} URLs in one purge; the limit is {PURGE_URLS_MAX}"
        raise Failure("SPEC_INVALID", message)
    found = []
    for url in urls:
        known = page(url)
        if known is None:
            raise Failure("SPEC_INVALID", f"`{url}` is no absolute http or https URL")
        if known.host != domain:
            raise Failure("URL_FOREIGN", f"`{url}` is not a page of {domain}")
        found.append(known)
    return found


def md5(data):
    """The name of an entry; no security rests on it."""
    try:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    except TypeError:  # Python before 3.9
        return hashlib.md5(data).hexdigest()
