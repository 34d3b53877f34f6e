"""Thunderbird's remote control: opens the compose window, writes, sends, reads."""

import json
import socket
from contextlib import closing
from typing import Any

from interop.attempt import RECIPIENT
from interop.kit import Failed, free_port, is_listening, wait_for

# Each runs in Thunderbird's own window, as its add-ons do.
_KEEP_PASSWORD = """
const [server, user, password, done] = arguments;
const login = Cc["@mozilla.org/login-manager/loginInfo;1"]
  .createInstance(Ci.nsILoginInfo);
login.init("smtp://" + server, null, "smtp://" + server, user, password, "", "");
Services.logins.addLoginAsync(login).then(() => done("kept"), e => done(String(e)));
"""

_OPEN = """
const [recipient, subject, text, done] = arguments;
const { MailServices } = ChromeUtils.importESModule(
  "resource:///modules/MailServices.sys.mjs");
const fields = Cc["@mozilla.org/messengercompose/composefields;1"]
  .createInstance(Ci.nsIMsgCompFields);
fields.to = recipient;
fields.subject = subject;
fields.body = text;
const params = Cc["@mozilla.org/messengercompose/composeparams;1"]
  .createInstance(Ci.nsIMsgComposeParams);
params.type = Ci.nsIMsgCompType.New;
params.format = Ci.nsIMsgCompFormat.HTML;
params.identity = MailServices.accounts.getIdentity("id1");
params.composeFields = fields;
MailServices.compose.OpenComposeWindowWithParams(null, params);
done("opened");
"""

_IS_READY = """
const window = Services.wm.getMostRecentWindow("msgcompose");
const ready = window && window.gMsgCompose && window.gMsgCompose.editor
  && !window.document.getElementById("button-send")?.disabled;
return Boolean(ready);
"""

_SEND = """
const window = Services.wm.getMostRecentWindow("msgcompose");
window.interop = "";
window.gMsgCompose.addMsgSendListener({
  onStartSending() {}, onProgress() {}, onStatus() {}, onGetDraftFolderURI() {},
  onSendNotPerformed() { window.interop = "not sent"; },
  onTransportSecurityError() {},
  onStopSending(id, status) { window.interop = status === 0 ? "sent" : "failed"; },
});
window.setTimeout(() => window.goDoCommand("cmd_sendNow"), 0);
"""

_LOOK = """
const said = [];
for (const window of Services.wm.getEnumerator(null)) {
  const body = window.document.getElementById("infoBody");
  if (body) { said.push(body.textContent); }
}
const compose = Services.wm.getMostRecentWindow("msgcompose");
return [compose ? compose.interop : "sent", said.join(" ")];
"""


class Marionette:
    """Its port, and once Thunderbird listens there, the connection."""

    def __init__(self) -> None:
        self.port = free_port()
        self._connection = socket.socket()
        self._number = 0

    def send(self, form: dict[str, str], password: str) -> str:
        """Write in the compose window and send: "sent", or what Thunderbird says."""
        wait_for(
            "Thunderbird listens", lambda: is_listening("127.0.0.1", self.port), 180
        )
        with closing(socket.create_connection(("127.0.0.1", self.port), 180)) as made:
            self._connection = made
            self._read()
            self._ask("WebDriver:NewSession", {})
            self._ask("Marionette:SetContext", {"value": "chrome"})
            self._wait(_KEEP_PASSWORD, form["Server Name"], form["User Name"], password)
            hello = "<b>Hello world!</b> This is a test email sent using Thunderbird."
            self._wait(_OPEN, RECIPIENT, "Hello from Thunderbird", hello)
            wait_for("the compose window", lambda: self._run(_IS_READY), 180)
            self._run(_SEND)
            return wait_for("Thunderbird is done", self._result, 180)

    def _result(self) -> str:
        state, said = self._run(_LOOK)
        if said:
            return str(said)
        return str(state) if state == "sent" else ""

    def _run(self, script: str, *words: str) -> Any:
        return self._ask(
            "WebDriver:ExecuteScript", {"script": script, "args": words}
        ).get("value")

    def _wait(self, script: str, *words: str) -> Any:
        asked = {"script": script, "args": words}
        return self._ask("WebDriver:ExecuteAsyncScript", asked).get("value")

    def _ask(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """One command and its answer, each a JSON list behind its length."""
        self._number += 1
        said = json.dumps([0, self._number, name, asked])
        self._connection.sendall(f"{len(said.encode())}:{said}".encode())
        _, _, error, result = self._read()
        if error:
            raise Failed(f"Thunderbird: {name}: {error.get('message')}")
        return result if isinstance(result, dict) else {"value": result}

    def _read(self) -> Any:
        length = b""
        while (octet := self._connection.recv(1)) not in {b":", b""}:
            length += octet
        text = b""
        while len(text) < int(length or b"0"):
            text += self._connection.recv(65_536)
        return json.loads(text or b"[0, 0, null, null]")
