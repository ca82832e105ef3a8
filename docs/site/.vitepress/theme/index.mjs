/*
 * VitePress' own theme, with the diagrams of the architecture.
 */
import DefaultTheme from 'vitepress/theme';
import Diagram from './diagram.vue';
// oxlint-disable-next-line import/no-unassigned-import -- the bundler takes a style sheet from an import
import './style.css';

export default {
  extends: DefaultTheme,
  enhanceApp({ app }) {
    app.component('Diagram', Diagram);
  },
};
