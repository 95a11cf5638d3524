"""Chromium by the WebDriver protocol (W3C), with nothing but the standard library; None of it where there is none."""

import base64
import json
import re
import shutil
import subprocess
import urllib.request

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def is_there():
    """Whether chromedriver and a Chromium for it are installed (Debian: chromium and chromium-driver)."""
    return shutil.which("chromedriver") is not None and shutil.which("chromium") is not None


class Browser:
    """A window of a new, empty profile; a context manager that ends what it started."""

    def __init__(self, profile):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            for line in self.driver.stdout:
                if found := re.search(r"started successfully on port (\d+)", line):
                    break
            else:
                raise RuntimeError("chromedriver did not start")
            self.address = f"http://127.0.0.1:{found[1]}/session"
            chrome = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {"browserName": "chrome", "goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
            session = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self.driver.kill()
            raise
        self.address += f"/{session['sessionId']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(20)

    def _call(self, method, path, values=None):
        data = None if method != "POST" else json.dumps(values or {}).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def devtools(self, command, **parameters):
        """A command of the DevTools protocol."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def window(self, width, height=900, *, scheme="light", mobile=False):
        """The size of the page in CSS pixels, and what the system prefers."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path):
        """A file, loaded to its end."""
        self._call("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script):
        """What the body of a function returns in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def errors(self):
        """What the page complained of since the last time."""
        return [line["message"] for line in self._call("POST", "/se/log", {"type": "browser"})]

    def point(self, x, y):
        """Move the mouse there, in CSS pixels of the window."""
        move = {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": [move]}
        self._call("POST", "/actions", {"actions": [mouse]})

    def click(self, query):
        """Click the element."""
        found = self._call("POST", "/element", {"using": "css selector", "value": query})
        self._call("POST", f"/element/{found[ELEMENT]}/click")

    def press(self, *keys):
        """Keys where the focus is."""
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": presses}]})

    def picture(self, *, whole=False):
        """A PNG of the window, or of the whole page."""
        if not whole:
            return base64.b64decode(self._call("GET", "/screenshot"))
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def printed(self):
        """The page as a PDF."""
        return base64.b64decode(self._call("POST", "/print", {"background": False}))
