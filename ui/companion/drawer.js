// On a phone the drawer lies over the chat: whoever chooses in it wants to see what was chosen. Streamlit shuts it, on a narrow
// page only, when somebody presses beside it.
document.addEventListener("click", (event) => {
  if (!event.target.closest(".stSidebar .stButton button")) return;
  document.querySelector(".stMain")?.dispatchEvent(new MouseEvent("mousedown", { bubbles: true }));
});

export default function () {}
