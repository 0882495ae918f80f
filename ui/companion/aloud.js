// Speaks the sentences one after another; a tap while it speaks stops it. One voice at a time on the page.
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector("button");
  const synthesis = window.speechSynthesis;
  if (!synthesis) return;
  let speaking = false;

  const show = () => {
    button.textContent = (speaking ? "■ " : "▶ ") + (speaking ? data.stop : data.read);
    button.setAttribute("aria-pressed", String(speaking));
  };
  const stop = () => {
    if (!speaking) return;
    speaking = false;
    synthesis.cancel();
    show();
  };
  const say = (at) => {
    if (!speaking) return;
    if (at >= data.sentences.length) {
      speaking = false;
      show();
      return;
    }
    const utterance = new SpeechSynthesisUtterance(data.sentences[at]);
    utterance.lang = data.voice;
    utterance.rate = 0.95;
    utterance.onend = () => say(at + 1);
    utterance.onerror = stop;
    synthesis.speak(utterance);
  };

  button.hidden = false;
  button.onclick = () => {
    if (speaking) return stop();
    window.dispatchEvent(new Event("mindpal-quiet"));
    speaking = true;
    show();
    say(0);
  };
  window.addEventListener("mindpal-quiet", stop);
  show();
  return () => {
    stop();
    window.removeEventListener("mindpal-quiet", stop);
  };
}
