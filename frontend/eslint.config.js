import js from "@eslint/js";
import a11y from "eslint-plugin-jsx-a11y";
import hooks from "eslint-plugin-react-hooks";
import globals from "globals";
import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["node_modules", "dist"] },
  js.configs.recommended,
  ...ts.configs.strictTypeChecked,
  {
    languageOptions: {
      globals: { ...globals.browser },
      parserOptions: { project: ["./tsconfig.node.json"], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "max-lines": ["error", 300],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": "off",
    },
  },
  { files: ["src/**/*.tsx"], ...a11y.flatConfigs.strict },
  { files: ["src/**/*.{ts,tsx}"], ...hooks.configs.flat["recommended-latest"] },
  {
    // The wire knows no browser: the same code could run in a worker or in Node.
    files: ["src/protocol/**/*.ts"],
    rules: {
      "no-restricted-globals": ["error", "window", "document", "localStorage", "fetch", "WebSocket", "navigator"],
      "no-restricted-imports": ["error", { patterns: ["react*", "../net/*", "../model/*", "../features/*", "../ui/*"] }],
    },
  },
  { files: ["src/net/**/*.ts"], rules: { "no-restricted-imports": ["error", { patterns: ["react*", "../model/*", "../features/*", "../ui/*"] }] } },
  { files: ["src/model/**/*.{ts,tsx}"], rules: { "no-restricted-imports": ["error", { patterns: ["../features/*", "../ui/*"] }] } },
  { files: ["dev/**/*.ts"], rules: { "@typescript-eslint/no-base-to-string": "off" } },
  { files: ["eslint.config.js", "public/*.js"], ...ts.configs.disableTypeChecked },
  // What the browser runs beside the page, as it stands.
  { files: ["public/*.js"], languageOptions: { globals: { ...globals.serviceworker } }, rules: { "no-restricted-globals": "off" } },
);
