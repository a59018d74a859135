/** The colours of a terminal, with the page's: every one of the sixteen is readable on its background. */
import type { ITheme } from "@xterm/xterm";

const light: ITheme = {
  background: "#ffffff", foreground: "#1d2227", cursor: "#0f6b7a", cursorAccent: "#ffffff",
  selectionBackground: "#b9dfe6", selectionInactiveBackground: "#dbdfe3",
  overviewRulerBorder: "#00000000", scrollbarSliderBackground: "#1d222733", scrollbarSliderHoverBackground: "#1d222755", scrollbarSliderActiveBackground: "#1d222777",
  black: "#1d2227", red: "#b02525", green: "#1a6e3a", yellow: "#7a5300", blue: "#0b57b0", magenta: "#862e9c", cyan: "#0b6470", white: "#565e66",
  brightBlack: "#6a727a", brightRed: "#c92a2a", brightGreen: "#237d45", brightYellow: "#8f5f00", brightBlue: "#1864c8", brightMagenta: "#9c36b5", brightCyan: "#0c7482", brightWhite: "#363c43",
};
const dark: ITheme = {
  background: "#12161a", foreground: "#d9dde1", cursor: "#4fa9b8", cursorAccent: "#12161a",
  selectionBackground: "#1f4f59", selectionInactiveBackground: "#30363d",
  overviewRulerBorder: "#00000000", scrollbarSliderBackground: "#d9dde133", scrollbarSliderHoverBackground: "#d9dde155", scrollbarSliderActiveBackground: "#d9dde177",
  black: "#30363d", red: "#ff8787", green: "#69db7c", yellow: "#ffd43b", blue: "#74c0fc", magenta: "#da77f2", cyan: "#66d9e8", white: "#d9dde1",
  brightBlack: "#8b949e", brightRed: "#ffa8a8", brightGreen: "#8ce99a", brightYellow: "#ffe066", brightBlue: "#a5d8ff", brightMagenta: "#e599f7", brightCyan: "#99e9f2", brightWhite: "#ffffff",
};
export const themeOf = (scheme: "light" | "dark"): ITheme => (scheme === "dark" ? dark : light);
