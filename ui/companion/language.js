// Streamlit's page calls itself English, whatever it speaks: a screen reader would read it with an English voice.
export default function ({ data }) {
  document.documentElement.lang = data.language;
}
