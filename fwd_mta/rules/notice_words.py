"""The words of notices, by language: for people first, programs read another part.

Doorway: `words_of(tag)`. A new language is one more `Words` in `LANGUAGES`, and every
text it lacks fails the tests. What the other side said is never translated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fwd_mta.mail.entry import Category, NoticeKind
from fwd_mta.rules.stamping import format_date


@dataclass(frozen=True, slots=True)
class Words:
    """One language's texts.

    `one` and `many` are what stands in an opening for its recipients, by case;
    `happened` says what was wrong, by category, where English, in which our diagnoses
    are, is not spoken.
    """

    language: str
    server: str
    subjects: Mapping[NoticeKind, str]
    to_one: str
    to_many: str
    openings: Mapping[NoticeKind, str]
    one: Mapping[str, str]
    many: Mapping[str, str]
    until: str
    over: str
    said: str
    said_by: str
    advice_is: str
    next_try: str
    number: str
    help: str
    contact: str
    advice: Mapping[Category, str]
    other_advice: str
    date: Callable[[float], str]
    happened: Mapping[Category, str] = field(default_factory=dict)


def words_of(tag: str) -> Words:
    """The texts of a language tag, "fi" or "fi-FI"; English where there are none."""
    return LANGUAGES.get(tag.partition("-")[0].lower(), _ENGLISH)


def _dotted(form: str) -> Callable[[float], str]:
    """Dates as day, month, year, in UTC."""
    return lambda moment: datetime.fromtimestamp(moment, UTC).strftime(form)


_ENGLISH = Words(
    language="en",
    server="This is the mail server {host}.",
    subjects={
        NoticeKind.FAILED: "Undeliverable: your message to {whom}",
        NoticeKind.DELAYED: "Delayed, still trying: your message to {whom}",
        NoticeKind.DELIVERED: "Delivered: your message to {whom}",
        NoticeKind.RELAYED: "Passed on: your message to {whom}",
    },
    to_one="{address}",
    to_many="{count} recipients",
    openings={
        NoticeKind.FAILED: (
            "Your message of {date} could not be delivered to {whom}."
            " It will not be tried again."
        ),
        NoticeKind.DELAYED: (
            "Your message of {date} has not reached {whom} yet. You need not send it"
            " again: this server keeps trying{until}."
        ),
        NoticeKind.DELIVERED: "Your message of {date} was delivered to {whom}.",
        NoticeKind.RELAYED: (
            "Your message of {date} was handed to the mail server of {whom}. That"
            " server does not report back, so this is the last you hear from us about"
            " it."
        ),
    },
    one={"whom": "this recipient"},
    many={"whom": "these recipients"},
    until=" until {date}",
    over="The time allowed for it is over (tries: {tries}).",
    said="The other side{by} said:",
    said_by=", {host},",
    advice_is="What you can do: {advice}",
    next_try="Next try: {date}",
    number="Your message has the number {id} here.",
    help="Help: {url}",
    contact="Contact: {contact}",
    advice={
        Category.BLOCKLIST: (
            "The person who runs this mail server has to have its address taken off"
            " the list. Tell them, and pass on the words above."
        ),
        Category.SPAM: (
            "Change what the message says or links to, or reach the recipient another"
            " way."
        ),
        Category.VIRUS: (
            "Check your computer, and share files by another way than an attachment."
        ),
        Category.POLICY: "Ask the recipient what their mail system allows.",
        Category.DMARC: (
            "The person who runs your domain has to set up SPF, DKIM and DMARC for it."
        ),
        Category.AUTH: (
            "The person who runs your domain has to set up SPF and DKIM for it."
        ),
        Category.RECIPIENT: (
            "Check the address for mistakes, or ask the recipient for the right one."
        ),
        Category.SENDER: (
            "Send from another address of yours, or have this one set right."
        ),
        Category.CAPACITY: "Tell the recipient another way that the mailbox is full.",
        Category.RATE: "Send it again later, and less at a time.",
        Category.MESSAGE: "Make the message smaller or simpler and send it again.",
        Category.DNS: "Check the part of the address after the @ for mistakes.",
        Category.TLS: (
            "Ask the person who runs this mail server to look at the reason."
        ),
        Category.CONFIG: (
            "Tell the recipient another way; their mail system is at fault."
        ),
    },
    other_advice="Send it again later, or reach the recipient another way.",
    date=format_date,
)

_FINNISH = Words(
    language="fi",
    server="Tämä on sähköpostipalvelin {host}.",
    subjects={
        NoticeKind.FAILED: "Ei toimitettu: viestisi {whom}",
        NoticeKind.DELAYED: "Viivästynyt, yritetään yhä: viestisi {whom}",
        NoticeKind.DELIVERED: "Toimitettu: viestisi {whom}",
        NoticeKind.RELAYED: "Välitetty eteenpäin: viestisi {whom}",
    },
    to_one="vastaanottajalle {address}",
    to_many="{count} vastaanottajalle",
    openings={
        NoticeKind.FAILED: (
            "Viestiäsi ({date}) ei voitu toimittaa {whom}. Sitä ei yritetä enää"
            " uudelleen."
        ),
        NoticeKind.DELAYED: (
            "Viestisi ({date}) ei ole vielä päässyt perille {whom}. Sinun ei tarvitse"
            " lähettää sitä uudelleen: tämä palvelin yrittää edelleen{until}."
        ),
        NoticeKind.DELIVERED: "Viestisi ({date}) toimitettiin {whom}.",
        NoticeKind.RELAYED: (
            "Viestisi ({date}) luovutettiin {whose} sähköpostipalvelimelle. Se palvelin"
            " ei ilmoita perillepääsystä, joten emme kerro viestistä enää muuta."
        ),
    },
    one={"whom": "tälle vastaanottajalle", "whose": "tämän vastaanottajan"},
    many={"whom": "näille vastaanottajille", "whose": "näiden vastaanottajien"},
    until=" ({date} asti)",
    over="Toimitukselle varattu aika on päättynyt (yrityksiä: {tries}).",
    said="Vastapuoli{by} sanoi:",
    said_by=" ({host})",
    advice_is="Mitä voit tehdä: {advice}",
    next_try="Seuraava yritys: {date}",
    number="Viestisi tunnus täällä on {id}.",
    help="Ohjeita: {url}",
    contact="Yhteydenotot: {contact}",
    advice={
        Category.BLOCKLIST: (
            "Tämän sähköpostipalvelimen ylläpitäjän on poistatettava palvelimen osoite"
            " estolistalta. Kerro asiasta hänelle ja välitä yllä olevat sanat."
        ),
        Category.SPAM: (
            "Muuta viestin sisältöä tai linkkejä, tai ota vastaanottajaan yhteyttä"
            " muulla tavalla."
        ),
        Category.VIRUS: (
            "Tarkista tietokoneesi ja jaa tiedostot muuten kuin liitteenä."
        ),
        Category.POLICY: (
            "Kysy vastaanottajalta, mitä hänen sähköpostijärjestelmänsä sallii."
        ),
        Category.DMARC: (
            "Verkkotunnuksesi ylläpitäjän on otettava käyttöön SPF, DKIM ja DMARC."
        ),
        Category.AUTH: (
            "Verkkotunnuksesi ylläpitäjän on otettava käyttöön SPF ja DKIM."
        ),
        Category.RECIPIENT: (
            "Tarkista osoitteen kirjoitusasu tai kysy oikea osoite vastaanottajalta."
        ),
        Category.SENDER: (
            "Lähetä viesti toisesta osoitteestasi tai korjauta tämä osoite."
        ),
        Category.CAPACITY: (
            "Kerro vastaanottajalle muulla tavalla, että postilaatikko on täynnä."
        ),
        Category.RATE: "Lähetä viesti myöhemmin uudelleen, ja vähemmän kerralla.",
        Category.MESSAGE: (
            "Tee viestistä pienempi tai yksinkertaisempi ja lähetä se uudelleen."
        ),
        Category.DNS: "Tarkista osoitteen @-merkin jälkeinen osa.",
        Category.TLS: "Pyydä tämän sähköpostipalvelimen ylläpitäjää selvittämään syy.",
        Category.CONFIG: (
            "Ota vastaanottajaan yhteyttä muulla tavalla: vika on hänen"
            " sähköpostijärjestelmässään."
        ),
    },
    other_advice=(
        "Lähetä viesti myöhemmin uudelleen tai ota vastaanottajaan yhteyttä muulla"
        " tavalla."
    ),
    date=_dotted("%d.%m.%Y klo %H.%M UTC"),
    happened={
        Category.BLOCKLIST: (
            "Vastaanottava palvelin ei luota tämän palvelimen osoitteeseen: se on"
            " estolistalla tai sen maine on huono."
        ),
        Category.SPAM: "Vastaanottava palvelin piti viestiä roskapostina.",
        Category.VIRUS: "Vastaanottava palvelin löysi viestistä haittaohjelman.",
        Category.POLICY: "Vastaanottavan palvelimen säännöt eivät salli viestiä.",
        Category.DMARC: (
            "Lähettäjän verkkotunnuksen DMARC-käytäntö ei salli tätä viestiä."
        ),
        Category.AUTH: "Vastaanottava palvelin ei voinut varmistaa lähettäjää.",
        Category.RECIPIENT: (
            "Osoitetta ei ole olemassa, tai sen postilaatikko on poistettu käytöstä."
        ),
        Category.SENDER: "Vastaanottava palvelin ei hyväksy lähettäjän osoitetta.",
        Category.CAPACITY: "Vastaanottajan postilaatikko tai palvelin on täynnä.",
        Category.RATE: (
            "Vastaanottavan palvelimen mielestä viestejä tuli liikaa lyhyessä ajassa."
        ),
        Category.GREYLIST: (
            "Vastaanottava palvelin pyysi yrittämään myöhemmin uudelleen."
        ),
        Category.MESSAGE: "Viesti on liian suuri, tai sen muotoa ei hyväksytä.",
        Category.NETWORK: "Vastaanottavaan palvelimeen ei saatu yhteyttä.",
        Category.DNS: "Vastaanottajan sähköpostipalvelinta ei löytynyt nimipalvelusta.",
        Category.TLS: "Vastaanottavaan palvelimeen ei saatu turvallista TLS-yhteyttä.",
        Category.PROTOCOL: "Vastaanottavan palvelimen vastausta ei voitu ymmärtää.",
        Category.CONFIG: "Palvelimen asetuksissa on vika.",
        Category.OTHER: "Vastaanottava palvelin ei ottanut viestiä vastaan.",
    },
)

_GERMAN = Words(
    language="de",
    server="Dies ist der Mailserver {host}.",
    subjects={
        NoticeKind.FAILED: "Unzustellbar: Ihre Nachricht an {whom}",
        NoticeKind.DELAYED: "Verzögert, wird weiter versucht: Ihre Nachricht an {whom}",
        NoticeKind.DELIVERED: "Zugestellt: Ihre Nachricht an {whom}",
        NoticeKind.RELAYED: "Weitergereicht: Ihre Nachricht an {whom}",
    },
    to_one="{address}",
    to_many="{count} Empfänger",
    openings={
        NoticeKind.FAILED: (
            "Ihre Nachricht vom {date} konnte {whom} nicht zugestellt werden. Es wird"
            " nicht noch einmal versucht."
        ),
        NoticeKind.DELAYED: (
            "Ihre Nachricht vom {date} hat {reached} noch nicht erreicht. Sie brauchen"
            " sie nicht noch einmal zu senden: Dieser Server versucht es weiter{until}."
        ),
        NoticeKind.DELIVERED: "Ihre Nachricht vom {date} wurde {whom} zugestellt.",
        NoticeKind.RELAYED: (
            "Ihre Nachricht vom {date} wurde dem Mailserver {whose} übergeben. Dieser"
            " meldet nichts zurück; mehr werden Sie von uns dazu nicht hören."
        ),
    },
    one={
        "whom": "diesem Empfänger",
        "reached": "diesen Empfänger",
        "whose": "dieses Empfängers",
    },
    many={
        "whom": "diesen Empfängern",
        "reached": "diese Empfänger",
        "whose": "dieser Empfänger",
    },
    until=" (bis {date})",
    over="Die dafür vorgesehene Zeit ist um (Versuche: {tries}).",
    said="Die Gegenseite{by} sagte:",
    said_by=" ({host})",
    advice_is="Was Sie tun können: {advice}",
    next_try="Nächster Versuch: {date}",
    number="Ihre Nachricht hat hier die Nummer {id}.",
    help="Hilfe: {url}",
    contact="Kontakt: {contact}",
    advice={
        Category.BLOCKLIST: (
            "Wer diesen Mailserver betreibt, muss dessen Adresse von der Sperrliste"
            " nehmen lassen. Sagen Sie Bescheid, und geben Sie die Worte oben weiter."
        ),
        Category.SPAM: (
            "Ändern Sie den Inhalt oder die Links, oder erreichen Sie den Empfänger auf"
            " anderem Weg."
        ),
        Category.VIRUS: (
            "Prüfen Sie Ihren Rechner, und teilen Sie Dateien anders als im Anhang."
        ),
        Category.POLICY: "Fragen Sie den Empfänger, was sein Mailsystem zulässt.",
        Category.DMARC: (
            "Wer Ihre Domain betreibt, muss SPF, DKIM und DMARC dafür einrichten."
        ),
        Category.AUTH: "Wer Ihre Domain betreibt, muss SPF und DKIM dafür einrichten.",
        Category.RECIPIENT: (
            "Prüfen Sie die Adresse auf Fehler, oder erfragen Sie die richtige."
        ),
        Category.SENDER: (
            "Senden Sie von einer anderen Adresse, oder lassen Sie diese richten."
        ),
        Category.CAPACITY: (
            "Sagen Sie dem Empfänger auf anderem Weg, dass sein Postfach voll ist."
        ),
        Category.RATE: "Senden Sie später noch einmal, und weniger auf einmal.",
        Category.MESSAGE: (
            "Machen Sie die Nachricht kleiner oder einfacher, und senden Sie sie noch"
            " einmal."
        ),
        Category.DNS: "Prüfen Sie den Teil der Adresse hinter dem @ auf Fehler.",
        Category.TLS: (
            "Bitten Sie den Betreiber dieses Mailservers, sich den Grund anzusehen."
        ),
        Category.CONFIG: (
            "Erreichen Sie den Empfänger auf anderem Weg; der Fehler liegt bei seinem"
            " Mailsystem."
        ),
    },
    other_advice=(
        "Senden Sie später noch einmal, oder erreichen Sie den Empfänger auf anderem"
        " Weg."
    ),
    date=_dotted("%d.%m.%Y, %H:%M Uhr UTC"),
    happened={
        Category.BLOCKLIST: (
            "Der Server des Empfängers vertraut der Adresse dieses Servers nicht: Sie"
            " steht auf einer Sperrliste oder hat einen schlechten Ruf."
        ),
        Category.SPAM: "Der Server des Empfängers hielt die Nachricht für Spam.",
        Category.VIRUS: "Der Server des Empfängers fand Schadsoftware darin.",
        Category.POLICY: "Die Regeln des Empfängers lassen die Nachricht nicht zu.",
        Category.DMARC: (
            "Die DMARC-Regel der Domain des Absenders lässt die Nachricht nicht zu."
        ),
        Category.AUTH: "Der Server des Empfängers konnte den Absender nicht prüfen.",
        Category.RECIPIENT: (
            "Die Adresse gibt es nicht, oder ihr Postfach ist abgeschaltet."
        ),
        Category.SENDER: (
            "Der Server des Empfängers nimmt die Adresse des Absenders nicht an."
        ),
        Category.CAPACITY: "Das Postfach oder der Server des Empfängers ist voll.",
        Category.RATE: (
            "Dem Server des Empfängers waren es zu viele Nachrichten in zu kurzer Zeit."
        ),
        Category.GREYLIST: (
            "Der Server des Empfängers bat, es später noch einmal zu versuchen."
        ),
        Category.MESSAGE: "Die Nachricht ist zu groß, oder ihre Form wird abgelehnt.",
        Category.NETWORK: "Der Server des Empfängers war nicht zu erreichen.",
        Category.DNS: "Der Mailserver des Empfängers war im DNS nicht zu finden.",
        Category.TLS: (
            "Zum Server des Empfängers kam keine sichere Verbindung (TLS) zustande."
        ),
        Category.PROTOCOL: (
            "Die Antwort des Servers des Empfängers war nicht zu verstehen."
        ),
        Category.CONFIG: "Ein Server ist falsch eingerichtet.",
        Category.OTHER: "Der Server des Empfängers nahm die Nachricht nicht an.",
    },
)

LANGUAGES: Mapping[str, Words] = {
    one.language: one for one in (_ENGLISH, _FINNISH, _GERMAN)
}
