"""What goes in and what comes out, in marshmallow; knows neither HTTP nor MongoDB."""
