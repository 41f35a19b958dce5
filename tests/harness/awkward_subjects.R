# Subjects that R's lane has to survive.

value_itself <- function(query, key, value, ...) value

quit_for_scale <- function(query, key, value, scale = NULL, ...) {
  if (!is.null(scale)) quit(save = "no")
  value
}

hang <- function(query, key, value, ...) repeat NULL

noisy <- function(query, key, value, ...) {
  print("to standard output")
  message("to standard error")
  value
}

refuse <- function(query, key, value, ...) {
  stop(errorCondition("`anything` is not supported", class = "NotImplementedError"))
}

two_values <- function(query, key, value, ...) list(value, value)

text <- function(query, key, value, ...) "text"

whole <- function(query, key, value, ...) value > 0

plain <- function(query, key, value, scale = 1, sizes = c(3, 2), left = 4L, names = c("a", "b"), ...) NULL

hungry <- function(query, key, value, ...) numeric(2^33)
