// Speaks the sentences one after another; a tap while it speaks stops it. One voice at a time on the page, and only one
// that speaks on this device: other voices send what they are to say to servers of the browser's maker.
const synthesis = window.speechSynthesis;
const drawn = new Map(); // each button on the page, and what shows its state: a page that is drawn anew brings another
let speaking = null; // the button whose sentences are being spoken, and the sentence

const tag = (voice) => voice.lang.replaceAll("_", "-").toLowerCase(); // Android writes zh_CN

const voiceFor = (speaks) => {
  const fit = new RegExp(speaks);
  const here = synthesis.getVoices().filter((voice) => voice.localService === true && fit.test(tag(voice)));
  return here.find((voice) => voice.default) ?? here[0];
};

const quiet = () => {
  if (!speaking) return;
  const { button } = speaking;
  speaking = null;
  synthesis.cancel();
  drawn.get(button)?.();
};

// A browser tells its voices late, and a device may get one while the page is open.
synthesis?.addEventListener?.("voiceschanged", () => drawn.forEach((show) => show()));

export default function ({ parentElement, data }) {
  if (!synthesis) return;
  const button = parentElement.querySelector("button");
  const sentences = data.sentences.split("\n").filter(Boolean);

  const show = () => {
    const now = speaking?.button === button;
    button.hidden = voiceFor(data.speaks) === undefined;
    button.textContent = now ? `■ ${data.stop}` : `▶ ${data.read}`;
    button.setAttribute("aria-pressed", String(now));
  };
  const say = (at, mine) => {
    if (speaking !== mine) return;
    const voice = voiceFor(data.speaks);
    if (at >= sentences.length || !voice) return quiet();
    mine.sentence = new SpeechSynthesisUtterance(sentences[at]); // held: Chrome forgets its end otherwise
    mine.sentence.voice = voice;
    mine.sentence.lang = voice.lang;
    mine.sentence.rate = 0.95;
    mine.sentence.onend = () => say(at + 1, mine);
    mine.sentence.onerror = () => speaking === mine && quiet();
    synthesis.speak(mine.sentence);
  };

  button.onclick = () => {
    const again = speaking?.button !== button;
    quiet();
    if (!again) return;
    speaking = { button };
    show();
    say(0, speaking);
  };
  drawn.set(button, show);
  show();
  return () => {
    if (speaking?.button === button) quiet();
    drawn.delete(button);
  };
}
