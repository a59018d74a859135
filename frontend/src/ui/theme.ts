import { createTheme } from "@mantine/core";
import type { MantineColorsTuple } from "@mantine/core";

const helm: MantineColorsTuple = [
  "#eaf6f8", "#d5eaee", "#a8d4db", "#77bcc8", "#4fa9b8", "#3599aa", "#1b7f92", "#0f6b7a", "#0b5a68", "#054853",
];
const gray: MantineColorsTuple = [
  "#f8f9fa", "#f1f3f5", "#e7eaed", "#dbdfe3", "#c5cbd1", "#a1a8b0", "#767e87", "#565e66", "#363c43", "#1d2227",
];
const dark: MantineColorsTuple = [
  "#d9dde1", "#b4bac1", "#979fa7", "#6d757e", "#454c54", "#30363d", "#23282e", "#171b1f", "#121519", "#0c0f12",
];

export const theme = createTheme({
  primaryColor: "helm",
  primaryShade: { light: 7, dark: 6 },
  colors: { helm, gray, dark },
  defaultRadius: "md",
  autoContrast: true,
  luminanceThreshold: 0.35,
  respectReducedMotion: true,
  cursorType: "pointer",
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Ubuntu, Cantarell, "Helvetica Neue", sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, "SF Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace',
  headings: { fontWeight: "600" },
});
